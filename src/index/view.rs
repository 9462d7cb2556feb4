//! One state of the redb file, to be read.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use crate::thought::store::{Pair, ReadStore, StoreError, Table};

/// The redb table of `table`.
pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Rows => "rows",
        Table::Buckets => "buckets",
        Table::Parents => "parents",
        Table::Inodes => "inodes",
        Table::Contents => "contents",
        Table::Signatures => "signatures",
        Table::Facts => "facts",
    })
}

/// What went wrong while reading.
pub(super) fn read_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError { operation: "read", source: Box::new(error.into()) }
}

/// Where a scan of `prefix` begins that goes on after `after`.
pub(super) fn scan_start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

/// All tables as one transaction left them. Holds the transaction's pages as long as it lives.
pub(super) struct View {
    tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl View {
    /// The newest state of `database`.
    pub(super) fn new(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let open = |table| Ok(transaction.open_table(definition(table))?);
        Ok(Self { tables: Table::ALL.into_iter().map(open).collect::<Result<_, redb::Error>>()? })
    }

    fn table(&self, table: Table) -> &ReadOnlyTable<&'static [u8], &'static [u8]> {
        &self.tables[super::overlay::slot(table)]
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = ReadableTable::get(self.table(table), key).map_err(read_error)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    /// The pairs from `start` on whose keys begin with `prefix`, in order.
    pub(super) fn pairs<'a>(
        &'a self,
        table: Table,
        (prefix, start): (&'a [u8], Bound<&[u8]>),
    ) -> Result<impl Iterator<Item = Result<Pair, StoreError>> + use<'a>, StoreError> {
        let range = ReadableTable::range::<&[u8]>(self.table(table), (start, Bound::Unbounded)).map_err(read_error)?;
        let pair = |(key, value): (redb::AccessGuard<'_, &'static [u8]>, redb::AccessGuard<'_, &'static [u8]>)| Pair {
            key: key.value().to_vec(),
            value: value.value().to_vec(),
        };
        Ok(range
            .map(move |item| item.map(pair).map_err(read_error))
            .take_while(move |item| item.as_ref().map_or(true, |pair| pair.key.starts_with(prefix))))
    }
}

/// The state of one commit of an [`Index`](super::Index); cheap to clone, may go to another thread. Drop it before the index is
/// opened again: while it lives the file counts as in use.
#[derive(Clone)]
pub struct Snapshot(pub(super) Arc<View>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl ReadStore for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.0.pairs(table, (prefix, scan_start(prefix, after)))?.take(limit).collect()
    }
}
