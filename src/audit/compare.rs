//! One path that both sides have, compared in everything that is replicated.

use super::join::{Auditor, Spot};
use super::links::Fault;
use super::{AuditError, What};
use crate::fs::{FileType, FsError, Special, Stat, Unheld};
use crate::thought::store::ReadStore;
use crate::words::entry::{Body, Digest, Entry, Kind, Timestamp, Xattrs};

/// How much is read at a time.
const READ_BYTES: usize = 1024 * 1024;

impl<S: ReadStore> Auditor<'_, S> {
    /// Tells of every difference between what is on disk and `entry`; true if both are of one kind.
    pub(super) fn compare(&mut self, spot: &Spot<'_>, stat: &Stat, entry: &Entry) -> Result<bool, AuditError> {
        if kind_of(stat) != Some(entry.kind()) {
            self.differ(&spot.path, What::Kind, stat_text(stat), entry_text(entry));
            return Ok(false);
        }
        let lacks = self.options.able.lacks(entry);
        self.owner_and_mode(spot, stat, entry, &lacks);
        let is_coarse = self.options.coarse_times && stat.mtime.nanoseconds == 0;
        if stat.mtime != entry.mtime && !(is_coarse && stat.mtime.seconds == entry.mtime.seconds) {
            self.differ(&spot.path, What::Mtime, time_text(stat.mtime), time_text(entry.mtime));
        }
        if !stat.is_directory() {
            self.hard_links(spot, stat, entry);
        }
        // One path that cannot be read is told of once.
        if let Err(error) = self.xattrs_of(spot, entry, &lacks) {
            self.unreadable(&spot.path, &error);
            return Ok(true);
        }
        match &entry.body {
            Body::Directory => {}
            Body::Symlink { target } => match spot.directory.read_link(&spot.relative) {
                Ok(here) if here == *target => {}
                Ok(here) => self.differ(&spot.path, What::Target, bytes_text(&here), bytes_text(target)),
                Err(error) => self.unreadable(&spot.path, &error),
            },
            Body::File { size, .. } if *size != stat.size => {
                self.differ(&spot.path, What::Size, format!("{} bytes", stat.size), format!("{size} bytes"));
            }
            Body::File { digest, .. } if self.options.content => self.content(spot, stat, *digest)?,
            Body::File { .. } => {}
        }
        Ok(true)
    }

    fn owner_and_mode(&mut self, spot: &Spot<'_>, stat: &Stat, entry: &Entry, lacks: &Unheld) {
        let (owner, group) = (stat.uid != entry.uid, stat.gid != entry.gid);
        if (owner && !lacks.owner) || (group && !lacks.group) {
            let text = |uid, gid| format!("{uid}:{gid}");
            self.differ(&spot.path, What::Owner, text(stat.uid, stat.gid), text(entry.uid, entry.gid));
        } else {
            self.audited.unheld.owner += u64::from(owner || group);
        }
        // Linux keeps no mode of symbolic links.
        let other = if entry.kind() == Kind::Symlink { 0 } else { (stat.mode ^ entry.mode) & 0o7777 };
        if other & !lacks.mode != 0 {
            self.differ(&spot.path, What::Mode, format!("{:04o}", stat.mode), format!("{:04o}", entry.mode & 0o7777));
        } else {
            self.audited.unheld.mode += u64::from(other != 0);
        }
    }

    fn hard_links(&mut self, spot: &Spot<'_>, stat: &Stat, entry: &Entry) {
        let (here, there) = match self.links.note(&spot.path, stat.inode.id, stat.inode.nlink, entry.link) {
            Some(Fault::Joined(first)) => (format!("linked with {first}"), format!("not linked with {first}")),
            Some(Fault::Parted(first)) => (format!("not linked with {first}"), format!("linked with {first}")),
            None => return,
        };
        self.differ(&spot.path, What::Links, here, there);
    }

    fn xattrs_of(&mut self, spot: &Spot<'_>, entry: &Entry, lacks: &Unheld) -> Result<(), FsError> {
        let here = spot.directory.xattrs(&spot.relative, self.xattrs)?;
        let is_lacking = |name: &[u8]| lacks.xattrs.iter().any(|lacking| **lacking == *name);
        let held = here.iter().filter(|(name, _)| !is_lacking(name));
        let wanted = entry.xattrs.iter().filter(|(name, _)| self.xattrs.covers(name));
        if !held.eq(wanted.clone().filter(|(name, _)| !is_lacking(name))) {
            let (here, there) = xattrs_text(&here, &entry.xattrs);
            self.differ(&spot.path, What::Xattrs, here, there);
        } else {
            let unheld = wanted.filter(|(name, value)| is_lacking(name) && here.value(name) != Some(*value));
            self.audited.unheld.xattrs += unheld.count() as u64;
        }
        Ok(())
    }

    fn content(&mut self, spot: &Spot<'_>, stat: &Stat, there: Digest) -> Result<(), AuditError> {
        let inode = stat.inode.id;
        let here = match self.links.content(inode) {
            Some(known) => known,
            None => match self.hash(spot, stat)? {
                Ok(Some(here)) => {
                    self.links.keep_content(inode, here);
                    here
                }
                Ok(None) => {
                    self.differ(&spot.path, What::Unreadable, "it changed while it was read", "");
                    return Ok(());
                }
                Err(error) => {
                    self.unreadable(&spot.path, &error);
                    return Ok(());
                }
            },
        };
        if here != there {
            self.differ(&spot.path, What::Content, here.to_string(), there.to_string());
        }
        Ok(())
    }

    /// The digest of a file's content; `None` if it is another file by now, or shorter.
    fn hash(&mut self, spot: &Spot<'_>, stat: &Stat) -> Result<Result<Option<Digest>, FsError>, AuditError> {
        let file = match spot.directory.open_read(&spot.relative).and_then(|file| Ok((file.stat()?, file))) {
            Ok((opened, file)) if opened.inode.id == stat.inode.id => file,
            Ok(_) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        self.buffer.resize(READ_BYTES, 0);
        let mut hasher = blake3::Hasher::new();
        let (mut at, mut data) = (0, 0..0);
        while at < stat.size {
            if at >= data.end {
                data = match file.next_data(at, stat.size) {
                    Ok(found) => found.unwrap_or(stat.size..stat.size),
                    Err(error) => return Ok(Err(error)),
                };
            }
            let end = if at < data.start { data.start } else { data.end };
            let wanted = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            if at < data.start {
                self.buffer[..wanted].fill(0);
            } else {
                match file.read_at(&mut self.buffer[..wanted], at) {
                    Ok(count) if count == wanted => {}
                    Ok(_) => return Ok(Ok(None)),
                    Err(error) => return Ok(Err(error)),
                }
            }
            hasher.update(&self.buffer[..wanted]);
            at += wanted as u64;
            self.audited.bytes += wanted as u64;
            self.report()?;
        }
        Ok(Ok(Some(hasher.finalize().into())))
    }
}

/// What is there, as far as it is replicated.
pub(super) fn kind_of(stat: &Stat) -> Option<Kind> {
    match stat.what {
        FileType::File => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Special(_) => None,
    }
}

pub(super) fn stat_text(stat: &Stat) -> String {
    match stat.what {
        FileType::File => format!("a file of {} bytes", stat.size),
        FileType::Directory => "a directory".to_owned(),
        FileType::Symlink => "a symbolic link".to_owned(),
        FileType::Special(Special::Socket) => "a socket".to_owned(),
        FileType::Special(Special::Fifo) => "a pipe".to_owned(),
        FileType::Special(Special::BlockDevice | Special::CharDevice) => "a device".to_owned(),
    }
}

pub(super) fn entry_text(entry: &Entry) -> String {
    match &entry.body {
        Body::File { size, .. } => format!("a file of {size} bytes"),
        Body::Directory => "a directory".to_owned(),
        Body::Symlink { .. } => "a symbolic link".to_owned(),
    }
}

fn time_text(time: Timestamp) -> String {
    format!("{}.{:09}", time.seconds, time.nanoseconds)
}

fn bytes_text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The attributes that differ, on both sides: `user.a="1" user.b`, a name alone where the other side only has it.
fn xattrs_text(here: &Xattrs, there: &Xattrs) -> (String, String) {
    let text = |own: &Xattrs, other: &Xattrs| {
        let differing = own.iter().filter(|(name, value)| other.value(name) != Some(*value));
        let shown = differing.map(|(name, value)| {
            let cut = value.get(..64).unwrap_or(value);
            format!("{}=\"{}\"", bytes_text(name), bytes_text(cut))
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    (text(here, there), text(there, here))
}
