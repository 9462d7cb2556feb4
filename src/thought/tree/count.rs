//! How many entries a part of the tree has.

use super::{Row, Tree, TreeError};
use crate::thought::store::ReadStore;

impl<S: ReadStore> Tree<S> {
    /// How many entries there are at `row`, which is of this tree, and below it.
    pub fn entries_within(&self, row: &Row) -> Result<u64, TreeError> {
        let mut count = 1;
        let mut directories: Vec<_> = row.directory.iter().cloned().collect();
        while let Some(facts) = directories.pop() {
            count += facts.children;
            if facts.children > 0 {
                self.for_children::<TreeError>(facts.id, |_, row| {
                    directories.extend(row.directory.filter(|facts| facts.children > 0));
                    Ok(())
                })?;
            }
        }
        Ok(count)
    }
}
