//! What a replica cannot hold of what the primary has.
//!
//! The tree says what the primary has, whatever the disk can take: so equal trees mean equal homes, at every standby and whatever its
//! privileges. What this one falls short of is counted: of the entries in the tree, those with an owner, mode or attribute that
//! [`Able`] knows it cannot give. The counts stand in the index, beside the position they are of; they are taken anew where they are of another
//! position, or of other abilities.

use crate::fs::{Able, Unheld};
use crate::thought::store::ReadStore;
use crate::thought::tree::{DirectoryId, ROOT, Tree, TreeError};
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::Entry;

/// What `able` cannot give to `entry`, as counts.
pub(super) fn of_entry(able: &Able, entry: &Entry) -> UnheldCounts {
    counts(&able.lacks(entry))
}

/// What was not given to one entry, as counts.
pub(super) fn counts(unheld: &Unheld) -> UnheldCounts {
    UnheldCounts {
        owner: u64::from(unheld.owner || unheld.group),
        mode: u64::from(unheld.mode != 0),
        xattrs: unheld.xattrs.len() as u64,
    }
}

/// What `able` cannot give to the entries of `tree`. Costs a look at each, unless it can give everything.
pub(super) fn of_tree<S: ReadStore>(able: &Able, tree: &Tree<S>) -> Result<UnheldCounts, TreeError> {
    let mut sum = UnheldCounts::default();
    if *able == Able::everything() {
        return Ok(sum);
    }
    sum = sum.plus(of_entry(able, &tree.root().entry));
    let mut below: Vec<DirectoryId> = vec![ROOT];
    while let Some(id) = below.pop() {
        tree.for_children::<TreeError>(id, |_, row| {
            sum = sum.plus(of_entry(able, &row.entry));
            below.extend(row.directory.map(|directory| directory.id));
            Ok(())
        })?;
    }
    Ok(sum)
}
