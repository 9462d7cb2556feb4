//! How many entries there are, in all and in a part of the tree.

use serde::{Deserialize, Serialize};

use super::{COUNTS_FACT, PAGE, Row, Tree, TreeError};
use crate::thought::store::{ReadStore, Table};

/// How much a tree holds, its root apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// The sum of the sizes of files, in bytes; one with several names counts under each.
    pub bytes: u64,
}

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

/// What the store remembers of it; an index from before they were kept is counted.
pub(super) fn counts_in<S: ReadStore>(store: &S) -> Result<Counts, TreeError> {
    if let Some(bytes) = store.get(Table::Facts, COUNTS_FACT)? {
        return postcard::from_bytes(&bytes).map_err(|_| TreeError::Row);
    }
    let mut counts = Counts::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(Table::Rows, &[], after.as_deref(), PAGE)?;
        let Some(last) = page.last() else { return Ok(counts) };
        after = Some(last.key.clone());
        for pair in &page {
            counts.entries += 1;
            counts.bytes = counts.bytes.saturating_add(Row::decode(&pair.value)?.entry.size());
        }
    }
}
