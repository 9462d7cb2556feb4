//! The spool: where the payloads of a generation wait, encoded once, until every standby has them.
//!
//! A spool is an unnamed temporary file in the node's state directory, written at its end, read anywhere; the page cache keeps a small one in
//! memory. It goes when the last who holds it lets go, or with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::thought::delta::ReadAt;

/// A spool that is being written.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
}

/// A view of a spool from which payloads are read.
#[derive(Clone, Debug)]
pub struct SpoolReader(Arc<File>);

impl Spool {
    /// Begins a spool in `directory`.
    pub fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(tempfile::tempfile_in(directory)?), end: 0 })
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
        SpoolReader(Arc::clone(&self.file))
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.end)?;
        self.end += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for SpoolReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_taken_back_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(directory.path()).unwrap();
        spool.write_all(b"kept").unwrap();
        let mark = spool.end();
        spool.write_all(b"given up").unwrap();
        spool.truncate(mark);
        spool.write_all(b" too").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(spool.reader().read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer, b"kept too");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a spool has no name");
    }
}
