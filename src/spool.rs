//! The spool: where the payloads of a generation wait, encoded once, until every standby has them.
//!
//! A spool is kept in memory while it is small; then it is an unnamed temporary file in the node's state directory, written at its end, read
//! anywhere. It goes when the last who holds it lets go, or with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::thought::delta::ReadAt;

/// A spool that grows beyond this goes to a file. Most generations of a Jenkins home stay below.
const IN_MEMORY_BYTES: usize = 256 * 1024;

/// A spool that is being written.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    content: Content,
    end: u64,
}

#[derive(Clone, Debug)]
enum Content {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

/// A view of a spool from which payloads are read.
#[derive(Clone, Debug)]
pub struct SpoolReader {
    content: Content,
    /// Where in the spool the view begins.
    begin: u64,
}

impl Spool {
    /// Begins a spool, for which `directory` is used when it grows.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: directory.to_owned(), content: Content::Memory(Arc::default()), end: 0 })
    }

    /// Begins a spool that is a file from its first byte on.
    pub fn on_disk(directory: &Path) -> io::Result<Self> {
        let content = Content::File(Arc::new(tempfile::tempfile_in(directory)?));
        Ok(Self { directory: directory.to_owned(), content, end: 0 })
    }

    /// Where the next byte goes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes back what was written from `end` on.
    pub fn truncate(&mut self, end: u64) {
        self.end = end.min(self.end);
    }

    /// What has been written so far, to be read.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { content: self.content.clone(), begin: 0 }
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = usize::try_from(self.end).unwrap_or(usize::MAX);
        match &mut self.content {
            Content::Memory(content) if end.saturating_add(bytes.len()) <= IN_MEMORY_BYTES => {
                let content = Arc::make_mut(content);
                content.truncate(end);
                content.extend_from_slice(bytes);
                self.end += bytes.len() as u64;
                return Ok(bytes.len());
            }
            Content::Memory(content) => {
                let file = tempfile::tempfile_in(&self.directory)?;
                file.write_all_at(&content[..end.min(content.len())], 0)?;
                self.content = Content::File(Arc::new(file));
            }
            Content::File(_) => {}
        }
        let Content::File(file) = &self.content else { return Ok(0) };
        let count = file.write_at(bytes, self.end)?;
        self.end += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpoolReader {
    /// The same spool, seen from `begin` on.
    #[must_use]
    pub fn from(&self, begin: u64) -> Self {
        Self { content: self.content.clone(), begin: self.begin + begin }
    }

    /// True if it has no file.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.content, Content::Memory(_))
    }
}

impl ReadAt for SpoolReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = offset.saturating_add(self.begin);
        match &self.content {
            Content::Memory(content) => content.read_at(buffer, offset),
            Content::File(file) => FileExt::read_at(&**file, buffer, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_taken_back_is_written_over_in_memory_and_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        for length in [10, IN_MEMORY_BYTES + 1] {
            let mut spool = Spool::create(directory.path()).unwrap();
            spool.write_all(b"kept").unwrap();
            let mark = spool.end();
            spool.write_all(&vec![b'x'; length]).unwrap();
            let before = spool.reader();
            spool.truncate(mark);
            spool.write_all(b" too").unwrap();
            assert_eq!(spool.reader().is_in_memory(), length < IN_MEMORY_BYTES);
            let mut buffer = [0; 8];
            assert_eq!(spool.reader().read_at(&mut buffer, 0).unwrap(), 8);
            assert_eq!(&buffer, b"kept too");
            assert_eq!(spool.reader().from(3).from(2).read_at(&mut buffer[..3], 0).unwrap(), 3);
            assert_eq!(&buffer[..3], b"too");
            assert_eq!(before.read_at(&mut buffer[..4], 0).unwrap(), 4);
            assert_eq!(&buffer[..4], b"kept");
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a spool has no name");
    }
}
