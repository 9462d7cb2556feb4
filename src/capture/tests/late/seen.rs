//! The world as a walk and a capture see it.

use std::io;
use std::ops::Range;
use std::time::Duration;

use super::calls::{Ino, ROOT};
use super::world::{CELL, Touch, World};
use crate::fs::{FileType, FsError, Look, Readable, Stat, XattrPolicy};
use crate::watch::{Barrier, Change, SourceId, Watch, WatchError};
use crate::words::entry::{InodeId, Xattrs};
use crate::words::path::{Name, RelPath};

/// A directory of the world.
pub(super) struct Place {
    world: World,
    base: Ino,
}

impl Place {
    pub(super) fn root(world: &World) -> Self {
        Self { world: world.clone(), base: ROOT }
    }

    fn find(&self, what: &str, path: &RelPath) -> Option<Ino> {
        let mut state = self.world.state();
        let (_, touches) = state.resolve(self.base, path);
        state.look(&format!("{what} {path}"), &touches);
        state.resolve(self.base, path).0
    }
}

fn missing(path: &RelPath) -> FsError {
    FsError::Open { path: path.to_string().into(), source: io::Error::from(rustix::io::Errno::NOENT) }
}

impl Look for Place {
    type File = File;
    type Pass = ();

    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, FsError> {
        let ino = self.find("stat", path);
        Ok(ino.map(|ino| self.world.state().stat(ino)))
    }

    fn list(&self, path: &RelPath) -> Result<Vec<(Name, Option<FileType>)>, FsError> {
        let ino = self.find("find", path).ok_or_else(|| missing(path))?;
        let mut state = self.world.state();
        state.look(&format!("list {path}"), &[Touch::Listing(ino)]);
        Ok(state.list(ino).into_iter().map(|name| (name, None)).collect())
    }

    fn enter(&self, path: &RelPath) -> Result<Self, FsError> {
        let ino = self.find("enter", path).ok_or_else(|| missing(path))?;
        if !self.world.state().stat(ino).is_directory() {
            return Err(missing(path));
        }
        Ok(Self { world: self.world.clone(), base: ino })
    }

    fn xattrs(&self, _path: &RelPath, _policy: &XattrPolicy) -> Result<Xattrs, FsError> {
        Ok(Xattrs::default())
    }

    fn read_link(&self, path: &RelPath) -> Result<Box<[u8]>, FsError> {
        Err(missing(path))
    }

    fn open_read(&self, path: &RelPath) -> Result<File, FsError> {
        let ino = self.find("open", path).ok_or_else(|| missing(path))?;
        let opened = self.world.state().stat(ino);
        if !opened.is_file() {
            return Err(FsError::WrongKind { path: path.to_string().into(), expected: "a regular file" });
        }
        Ok(File { world: self.world.clone(), ino, opened })
    }

    fn pass(&self) {}
}

/// An open file of the world.
pub(super) struct File {
    world: World,
    ino: Ino,
    opened: Stat,
}

impl Readable for File {
    fn opened(&self) -> &Stat {
        &self.opened
    }

    fn stat(&self) -> Result<Stat, FsError> {
        let mut state = self.world.state();
        state.look("stat of what is open", &[Touch::Inode(self.ino)]);
        Ok(state.stat(self.ino))
    }

    /// Cell by cell, each a look of its own.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        let offset = usize::try_from(offset).unwrap();
        assert!(offset.is_multiple_of(CELL), "files are read in cells");
        let mut state = self.world.state();
        let mut count = 0;
        for piece in buffer.chunks_mut(CELL) {
            let index = (offset + count) / CELL;
            state.look(&format!("read cell {index} of {}", self.ino), &[Touch::Cell(self.ino, index)]);
            let Some(cell) = state.cell(self.ino, index) else { break };
            piece.fill(cell);
            count += piece.len();
        }
        Ok(count)
    }

    fn next_data(&self, from: u64, end: u64) -> Result<Option<Range<u64>>, FsError> {
        Ok((from < end).then_some(from..end))
    }
}

/// What watches the world.
pub(super) struct Ears(pub(super) World);

impl Watch for Ears {
    type Home = Place;

    fn sources(&self) -> usize {
        self.0.state().sources()
    }

    fn raise_barrier(&mut self) -> Result<Barrier, WatchError> {
        Ok(self.0.state().raise())
    }

    fn drain(&mut self, _timeout: Duration) -> Vec<Change> {
        self.0.state().drain()
    }

    fn watch_directory(&mut self, path: &RelPath, directory: &Place) -> Result<(), WatchError> {
        self.0.state().watch(directory.base, path);
        Ok(())
    }

    fn unwatch_directory(&mut self, path: &RelPath) {
        self.0.state().unwatch(path);
    }

    fn watch_inode(&mut self, home: &Place, path: &RelPath, id: InodeId) -> Result<(), WatchError> {
        match home.find("open", path) {
            Some(ino) if ino == id.ino => {
                self.0.state().watch_inode(id, true);
                Ok(())
            }
            _ => Err(WatchError::Gone { path: path.clone() }),
        }
    }

    fn unwatch_inode(&mut self, id: InodeId) {
        self.0.state().watch_inode(id, false);
    }

    fn watches(&self) -> usize {
        self.0.state().watches()
    }

    fn restart(&mut self, source: SourceId) -> Result<(), WatchError> {
        self.0.state().restart(source);
        Ok(())
    }
}
