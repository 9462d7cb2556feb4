//! A file as it will be: what lies on the disk, with the bytes of edits over it that are acked and not revealed (see `unrevealed`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::fs::{FileReader, FsError, Root};
use crate::thought::delta::{ReadAt, Span};
use crate::words::path::RelPath;

/// A file, and edits of it that were not made yet.
pub(super) struct Layered {
    root: Arc<Root>,
    base: FileReader,
    length: u64,
    /// Where bytes of an edit are over it: by their offset, the end, and where they come from.
    over: BTreeMap<u64, Over>,
    /// The files that edits come from,
    payloads: Vec<RelPath>,
    /// and the one that was read last: there may be as many as generations.
    open: RefCell<Option<(usize, FileReader)>>,
}

/// A run of bytes of an edit.
#[derive(Clone, Copy)]
struct Over {
    end: u64,
    payload: usize,
    from: u64,
}

impl Layered {
    /// A file as it is.
    pub(super) fn plain(root: &Arc<Root>, base: FileReader) -> Self {
        let (root, length) = (Arc::clone(root), base.opened().size);
        Self { root, base, length, over: BTreeMap::new(), payloads: Vec::new(), open: RefCell::default() }
    }

    /// Lays an edit over it, after which it is `new_length` long and whose bytes stand in `payload`, one span after the other.
    pub(super) fn lay(&mut self, spans: &[Span], new_length: u64, payload: RelPath) {
        let mut from = 0;
        for span in spans {
            self.clear(span.offset, span.end());
            self.over.insert(span.offset, Over { end: span.end(), payload: self.payloads.len(), from });
            from += span.len;
        }
        self.length = new_length;
        self.payloads.push(payload);
    }

    /// Cuts what is laid over `begin..end`.
    fn clear(&mut self, begin: u64, end: u64) {
        let first = self.over.range(..begin).next_back().map(|(at, over)| (*at, *over));
        let within: Vec<(u64, Over)> = self.over.range(begin..end).map(|(at, over)| (*at, *over)).collect();
        for (at, over) in first.into_iter().filter(|(_, over)| over.end > begin).chain(within) {
            self.over.remove(&at);
            if at < begin {
                self.over.insert(at, Over { end: begin, ..over });
            }
            if over.end > end {
                self.over.insert(end, Over { from: over.from + (end - at), ..over });
            }
        }
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// True if there are holes in it.
    pub(super) fn has_holes(&self) -> bool {
        let stat = self.base.opened();
        stat.blocks_512.saturating_mul(512) < stat.size
    }

    /// Reads bytes of an edit; `None` if it was made meanwhile, and tidied away: then they stand in the file.
    fn read_payload(&self, payload: usize, buffer: &mut [u8], from: u64) -> Result<Option<usize>, FsError> {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(which, _)| *which != payload) {
            *open = match self.root.open_read(&self.payloads[payload]) {
                Ok(file) => Some((payload, file)),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        open.as_ref().map(|(_, file)| file.read_at(buffer, from)).transpose()
    }
}

impl ReadAt for Layered {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let over = self.over.range(..=offset).next_back().filter(|(_, over)| offset < over.end);
        let next = self.over.range(offset..).next().map(|(at, _)| *at);
        let end = over.map_or(next.unwrap_or(self.length), |(_, over)| over.end);
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = &mut buffer[..wanted];
        let read = match over {
            Some((at, over)) => self.read_payload(over.payload, buffer, over.from + (offset - at)),
            None => Ok(None),
        };
        match read.map_err(io::Error::other)? {
            Some(count) => Ok(count),
            None => self.base.read_at(buffer, offset).map_err(io::Error::other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thought::delta::read_full;
    use crate::thought::dice::Dice;

    #[test]
    fn a_file_with_edits_over_it_reads_as_if_they_were_made() {
        let directory = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(directory.path()).unwrap());
        let path = |name: String| RelPath::parse(name.as_bytes()).unwrap();
        for seed in 0..300 {
            let mut dice = Dice::new(seed);
            let length = dice.index(60);
            let mut model = dice.noise(length);
            let base = path(format!("{seed}"));
            root.create_file(&base).unwrap().write_at(&model, 0).unwrap();
            let mut file = Layered::plain(&root, root.open_read(&base).unwrap());
            for number in 0..dice.index(9) {
                let (mut spans, mut payload, mut at) = (Vec::new(), Vec::new(), 0);
                while at < model.len() {
                    let offset = at + dice.index(20);
                    let count = 1 + dice.index(12);
                    if offset > model.len() {
                        break;
                    }
                    let bytes = dice.noise(count);
                    model.resize(model.len().max(offset + bytes.len()), 0);
                    model[offset..offset + bytes.len()].copy_from_slice(&bytes);
                    payload.extend_from_slice(&bytes);
                    spans.push(Span { offset: offset as u64, len: bytes.len() as u64 });
                    at = offset + bytes.len();
                }
                let name = path(format!("{seed}.{number}"));
                root.create_file(&name).unwrap().write_at(&payload, 0).unwrap();
                file.lay(&spans, model.len() as u64, name);
            }
            let mut read = vec![0; model.len() + 5];
            let count = read_full(&file, &mut read, 0).unwrap();
            assert_eq!((count, &read[..count]), (model.len(), &model[..]), "seed {seed}");
            assert_eq!(file.length(), model.len() as u64);
        }
    }
}
