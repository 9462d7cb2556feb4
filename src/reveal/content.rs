//! New files in the stage, hashed as they are written.

use std::io;

use crate::fs::{FileWriter, FsError, Root};
use crate::thought::delta::ReadAt;
use crate::thought::delta::probe::{ProbeCollector, ProbePlan};
use crate::thought::digest::{Content as Hashed, ContentHasher};
use crate::thought::tree::FileMemory;
use crate::words::path::RelPath;

/// How much is read at a time when content is copied or hashed.
pub(super) const PIECE: usize = 256 * 1024;
/// Contents from this length on are remembered, so that an append needs no second reading.
pub(super) const REMEMBERED_FROM: u64 = 1 << 20;

/// A file being written and hashed.
pub(super) struct NewFile {
    writer: FileWriter,
    hasher: ContentHasher,
    probes: Option<ProbeCollector>,
    at: u64,
    sparse: bool,
}

impl NewFile {
    /// Begins the file `path`, which will be `size` bytes long if all goes well.
    pub(super) fn create(root: &Root, path: &RelPath, size: u64, sparse: bool) -> Result<Self, FsError> {
        Ok(Self::on(root.create_file(path)?, size, sparse))
    }

    /// The same, without any permission for anybody until [`FileWriter::dress`] gives some.
    pub(super) fn create_closed(root: &Root, path: &RelPath, size: u64, sparse: bool) -> Result<Self, FsError> {
        Ok(Self::on(root.create_file_closed(path)?, size, sparse))
    }

    /// The same, in the place of what is there.
    pub(super) fn create_closed_anew(root: &Root, path: &RelPath, size: u64, sparse: bool) -> Result<Self, FsError> {
        match Self::create_closed(root, path, size, sparse) {
            Err(error) if error.is_existing() => {
                root.remove_tree(path)?;
                Self::create_closed(root, path, size, sparse)
            }
            created => created,
        }
    }

    fn on(writer: FileWriter, size: u64, sparse: bool) -> Self {
        let plan = ProbePlan::new(size, &[0; 32], &[]).filter(|_| size >= REMEMBERED_FROM);
        let probes = plan.as_ref().map(ProbeCollector::new);
        Self { writer, hasher: ContentHasher::new(), probes, at: 0, sparse }
    }

    /// Goes on with what another process has begun, all of which is read once; nobody has any permission for it. `None` if that `is_over` meanwhile.
    pub(super) fn go_on(
        root: &Root,
        path: &RelPath,
        size: u64,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, FsError> {
        root.set_mode(path, 0o600)?;
        let writer = root.open_write(path)?;
        root.set_mode(path, 0)?;
        let mut file = Self::on(writer, size, false);
        let mut buffer = vec![0; PIECE];
        while !is_over() {
            let count = file.writer.read_at(&mut buffer, file.at)?;
            file.take(&buffer[..count]);
            if count < buffer.len() {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// How many bytes there are so far.
    pub(super) fn length(&self) -> u64 {
        self.at
    }

    /// Whether what is still to come is stored with holes.
    #[must_use]
    pub(super) fn sparse(self, sparse: bool) -> Self {
        Self { sparse, ..self }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(probes) = &mut self.probes {
            probes.update(self.at, bytes);
        }
        self.at += bytes.len() as u64;
    }

    /// Adds `bytes` at the end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.at;
        self.take(bytes);
        let written = match self.sparse {
            true => self.writer.write_sparse_at(bytes, at),
            false => self.writer.write_at(bytes, at),
        };
        written.map_err(io::Error::other)
    }

    /// Adds all of `source`.
    pub(super) fn copy(&mut self, source: &dyn ReadAt) -> Result<(), io::Error> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = source.read_at(&mut buffer, self.at)?;
            if count == 0 {
                return Ok(());
            }
            self.write(&buffer[..count])?;
        }
    }

    /// What was written, what to remember of it, and the file, still open.
    pub(super) fn finish(self) -> Result<(Hashed, Option<Box<FileMemory>>, FileWriter), FsError> {
        if self.sparse {
            self.writer.set_len(self.at)?;
        }
        let hashed = self.hasher.finish();
        let probes = self.probes.and_then(ProbeCollector::finish);
        let memory = probes.map(|probes| Box::new(FileMemory { frontier: hashed.frontier.clone(), probes }));
        Ok((hashed, memory, self.writer))
    }
}
