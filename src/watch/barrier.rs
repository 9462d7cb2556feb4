//! Barriers: files whose creation every source sees, in order behind all that came before.
//!
//! They are made in `<home>/.hotspare/barriers`, named `barrier-<counter>-<nonce>` (hexadecimal), and removed at once: what counts
//! is the event, and the change time the file was given. Left ones are swept when the directory is opened.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::{Mailbox, WatchError};
use crate::words::entry::Timestamp;

/// The barrier directory, from the home's root.
pub(super) const BARRIERS: &[u8] = b".hotspare/barriers";
const PREFIX: &[u8] = b"barrier-";

/// Which barrier: unique for ever, for all practical purposes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BarrierName {
    counter: u64,
    nonce: u64,
}

impl BarrierName {
    /// The barrier whose file is called `name`, if it is one.
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name.strip_prefix(PREFIX)?).ok()?;
        let (counter, nonce) = text.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(Self { counter: number(counter)?, nonce: number(nonce)? })
    }
}

impl fmt::Display for BarrierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "barrier-{:x}-{:016x}", self.counter, self.nonce)
    }
}

/// A barrier that was raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barrier {
    /// What the sources' answers carry.
    pub name: BarrierName,
    /// The change time its file was created with: what has an older one was changed before.
    pub ctime: Timestamp,
}

/// The barrier directory, held open.
#[derive(Debug)]
pub struct Barriers {
    directory: OwnedFd,
    mailbox: Arc<Mailbox>,
    counter: u64,
}

impl Barriers {
    /// Opens, and if need be makes, the barrier directory of `home`, and sweeps it. Answers go to `mailbox`.
    pub(super) fn open(home: &Path, mailbox: Arc<Mailbox>) -> Result<Self, WatchError> {
        let directory = open_directory(home).map_err(WatchError::Barriers)?;
        sweep(&directory).map_err(WatchError::Barriers)?;
        Ok(Self { directory, mailbox, counter: 0 })
    }

    /// Raises a barrier: everything that happened before this call is older than it.
    pub fn raise(&mut self) -> Result<Barrier, WatchError> {
        self.create().map_err(WatchError::Barriers)
    }

    fn create(&mut self) -> io::Result<Barrier> {
        self.counter += 1;
        let nonce = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
        let name = BarrierName { counter: self.counter, nonce };
        self.mailbox.expect(name);
        let file_name = name.to_string();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &file_name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::CTIME);
        rustix::fs::unlinkat(&self.directory, &file_name, AtFlags::empty())?;
        let ctime = stat?.stx_ctime;
        Ok(Barrier { name, ctime: Timestamp { seconds: ctime.tv_sec, nanoseconds: ctime.tv_nsec } })
    }
}

/// Component by component, following no link below the home.
fn open_directory(home: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::openat(CWD, home, flags, Mode::empty())?;
    for name in BARRIERS.split(|&byte| byte == b'/') {
        match rustix::fs::mkdirat(&directory, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(directory)
}

/// Removes the barriers that an earlier run left behind.
fn sweep(directory: &OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if entry.file_name().to_bytes().starts_with(PREFIX) {
            match rustix::fs::unlinkat(directory, entry.file_name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
