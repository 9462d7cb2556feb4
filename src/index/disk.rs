//! The index itself: overlay over redb, commits and spills.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, TableDefinition};

use super::overlay::Overlay;
use super::view::{Snapshot, View, definition, scan_start};
use super::{FORMAT, IndexError, Opened, Options};
use crate::thought::store::{Pair, ReadStore, Store, StoreError, Table};

/// The index's own facts.
pub(super) const OWN: TableDefinition<'static, &str, u64> = TableDefinition::new("hotspare");
/// Fact: the format version.
pub(super) const FORMAT_FACT: &str = "format";
/// Fact: 1 while a change is spilled and not yet committed.
pub(super) const OPEN_CHANGE_FACT: &str = "open_change";

/// A failed write left the handle unusable.
#[derive(Debug, thiserror::Error)]
#[error("an earlier write failed: the index must be opened again")]
struct Unusable;

/// A store on disk. See [`index`](super).
pub struct Index {
    overlay: Overlay,
    /// The last commit with what was spilled since; `None` after a failed write.
    latest: Option<Arc<View>>,
    /// The last commit, while `latest` is not that.
    committed: Option<Arc<View>>,
    options: Options,
    path: PathBuf,
    // Behind the views, which must be gone for redb to close in order. `None` when it was closed and could not be opened again.
    database: Option<Database>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("overlay_bytes", &self.overlay.bytes()).finish_non_exhaustive()
    }
}

impl Index {
    /// An index on an open `database` that has all its tables.
    pub(super) fn on(database: Database, path: &Path, options: Options) -> Result<Self, redb::Error> {
        let latest = Some(Arc::new(View::new(&database)?));
        let (path, database) = (path.to_owned(), Some(database));
        Ok(Self { overlay: Overlay::default(), latest, committed: None, options, path, database })
    }

    /// False after a failed write: until [`Index::reopen`], nothing can be read or written.
    pub fn is_usable(&self) -> bool {
        self.latest.is_some()
    }

    /// Closes the file and opens it again: the state of the last commit, or, and false, an empty one if that is not to be trusted. What was written
    /// since is gone. It may be tried again after an error; [`IndexError::InUse`] as long as a snapshot lives.
    pub fn reopen(&mut self) -> Result<bool, IndexError> {
        (self.latest, self.committed, self.overlay) = (None, None, Overlay::default());
        self.database = None;
        let opened = Self::open_with(&self.path, self.options)?;
        let is_intact = matches!(opened, Opened::Intact(_));
        *self = opened.into_index();
        Ok(is_intact)
    }

    /// Makes everything written so far durable, as one change, and empties the overlay. With nothing written it does nothing.
    /// After an error every later call fails: open the index again.
    pub fn commit(&mut self) -> Result<(), IndexError> {
        if self.latest.is_none() {
            return Err(IndexError::Commit(Box::new(Unusable)));
        }
        if self.overlay.bytes() == 0 && self.committed.is_none() {
            return Ok(());
        }
        self.committed = None;
        self.write(Durability::Immediate).map_err(|error| IndexError::Commit(cause(error)))
    }

    /// True when the overlay has grown so far that the owner should commit at its next consistent point, or has spilled already.
    pub fn wants_commit(&self) -> bool {
        self.overlay.bytes() > self.options.overlay_bytes || self.committed.is_some()
    }

    /// How many bytes the overlay holds: keys, values and a flat 64 bytes for each.
    pub fn overlay_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// A view of the last commit, for another thread. While it lives, redb cannot reuse the pages it shows.
    pub fn snapshot(&self) -> Result<Snapshot, IndexError> {
        let view = self.committed.as_ref().or(self.latest.as_ref());
        view.cloned().map(Snapshot).ok_or_else(|| IndexError::Snapshot(Box::new(Unusable)))
    }

    /// Writes the overlay without durability, keeping a view of the last commit.
    fn spill(&mut self) -> Result<(), StoreError> {
        if self.committed.is_none() {
            self.committed.clone_from(&self.latest);
        }
        self.write(Durability::None).map_err(|error| write_error(cause(error)))
    }

    fn write(&mut self, durability: Durability) -> Result<(), redb::Error> {
        // Gone during the write, so that redb may reuse its pages; not put back if the write fails.
        self.latest = None;
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        write_changes(database, &self.overlay, durability)?;
        self.overlay = Overlay::default();
        self.latest = Some(Arc::new(View::new(database)?));
        Ok(())
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        if self.latest.is_none() {
            return Err(write_error(Box::new(Unusable)));
        }
        self.overlay.set(table, key, value);
        if self.overlay.bytes() > self.options.overlay_cap_bytes { self.spill() } else { Ok(()) }
    }

    fn view(&self) -> Result<&View, StoreError> {
        self.latest.as_deref().ok_or_else(|| StoreError { operation: "read", source: Box::new(Unusable) })
    }
}

/// What redb says, or what the system said to redb, which redb does not name as its source.
pub(super) fn cause(error: redb::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        redb::Error::Io(error) => Box::new(error),
        error => Box::new(error),
    }
}

fn write_error(source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError { operation: "write", source }
}

/// Writes `overlay` in one transaction. Without durability, it is marked as an open change; creates what is missing.
pub(super) fn write_changes(database: &Database, overlay: &Overlay, durability: Durability) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    let durable = matches!(durability, Durability::Immediate);
    transaction.set_durability(durability)?;
    transaction.set_quick_repair(durable);
    for table in Table::ALL {
        let mut rows = transaction.open_table(definition(table))?;
        for (key, value) in overlay.changes(table) {
            match value {
                Some(value) => drop(rows.insert(&**key, &**value)?),
                None => drop(rows.remove(&**key)?),
            }
        }
    }
    let mut own = transaction.open_table(OWN)?;
    own.insert(FORMAT_FACT, FORMAT)?;
    own.insert(OPEN_CHANGE_FACT, u64::from(!durable))?;
    drop(own);
    transaction.commit()?;
    Ok(())
}

impl ReadStore for Index {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.overlay.get(table, key) {
            Some(written) => Ok(written.as_deref().map(<[u8]>::to_vec)),
            None => self.view()?.get(table, key),
        }
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let range = (prefix, scan_start(prefix, after));
        let base = self.view()?.pairs(table, range)?;
        self.overlay.merge(table, range, base, limit)
    }
}

impl Store for Index {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.set(table, key, Some(value))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.set(table, key.to_vec(), None)
    }
}
