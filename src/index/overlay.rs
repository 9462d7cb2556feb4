//! The writes since the last commit, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::PAIR_BYTES;
use crate::thought::store::{Pair, Table};

/// Writes to one table. As they are kept for long, without room to grow.
pub(super) type Changes = BTreeMap<Box<[u8]>, Option<Box<[u8]>>>;

/// What was put (`Some`) and deleted (`None`), by table.
#[derive(Default)]
pub(super) struct Overlay {
    tables: [Changes; Table::ALL.len()],
    bytes: usize,
}

impl Overlay {
    /// Keys, values and [`PAIR_BYTES`] for each.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was written to `key`, if anything was.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Box<[u8]>>> {
        self.tables[slot(table)].get(key)
    }

    pub(super) fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let (key_bytes, value_bytes) = (key.len(), value.as_ref().map_or(0, Vec::len));
        match self.tables[slot(table)].insert(key.into(), value.map(Vec::into_boxed_slice)) {
            Some(old) => self.bytes -= old.map_or(0, |old| old.len()),
            None => self.bytes += key_bytes + PAIR_BYTES,
        }
        self.bytes += value_bytes;
    }

    /// All writes to `table`, in the order of keys.
    pub(super) fn changes(&self, table: Table) -> &Changes {
        &self.tables[slot(table)]
    }

    /// At most `limit` pairs of `base` as the writes leave them. `base` yields the pairs from `start` on, in order, all with `prefix`.
    pub(super) fn merge<E>(
        &self,
        table: Table,
        (prefix, start): (&[u8], Bound<&[u8]>),
        base: impl Iterator<Item = Result<Pair, E>>,
        limit: usize,
    ) -> Result<Vec<Pair>, E> {
        let mut base = base.peekable();
        let mut over = self
            .changes(table)
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        let mut pairs = Vec::new();
        while pairs.len() < limit {
            let base_first = match (base.peek(), over.peek()) {
                (None, None) => break,
                (Some(Ok(pair)), Some((key, _))) => {
                    let overwritten = pair.key[..] == key[..];
                    let first = pair.key[..] < key[..];
                    if overwritten {
                        drop(base.next());
                    }
                    first
                }
                (Some(_), _) => true,
                (None, Some(_)) => false,
            };
            if base_first {
                pairs.extend(base.next().transpose()?);
            } else if let Some((key, Some(value))) = over.next() {
                pairs.push(Pair { key: key.to_vec(), value: value.to_vec() });
            }
        }
        Ok(pairs)
    }
}

/// Where a table stands in [`Table::ALL`].
pub(super) fn slot(table: Table) -> usize {
    match table {
        Table::Rows => 0,
        Table::Buckets => 1,
        Table::Parents => 2,
        Table::Inodes => 3,
        Table::Contents => 4,
        Table::Signatures => 5,
        Table::Facts => 6,
    }
}
