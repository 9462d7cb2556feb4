//! The kernel's side of a simulated disk: FUSE requests answered from it.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, Filesystem, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;

use super::bed::{BLOCK, Calls, State, attributes};
use super::image::{Key, Node, What};
use super::syncfs::SIMULATED_SYNCFS;

/// How long the kernel believes what it is told: not at all. Told of an inode while a change of that is under way, it would believe the older answer
/// for ever.
const BELIEVED: Duration = Duration::ZERO;
/// How much is written at a time, at most.
const WRITE_BYTES: u32 = 128 << 10;

pub(crate) struct Face(pub(crate) Arc<Mutex<State>>);

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

impl Face {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, ino: INodeNo, look: impl FnOnce(&mut State, Key) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut state = self.lock();
        state.count(&[Calls::All])?;
        let key = state.disk.by_number(ino.0)?;
        look(&mut state, key)
    }

    fn change<T>(
        &self,
        call: &str,
        name: &dyn Debug,
        ino: INodeNo,
        kinds: &[Calls],
        change: impl FnOnce(&mut State, Key) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut state = self.lock();
        state.record(call, name);
        state.count(kinds)?;
        let key = state.disk.by_number(ino.0)?;
        change(&mut state, key)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, what: What, mode: u32, req: &Request, reply: ReplyEntry) {
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        let call = match what {
            What::File => "create",
            What::Directory(_) => "mkdir",
            What::Symlink(_) => "symlink",
        };
        let made = self.change(call, &name, parent, CHANGES, |state, parent| {
            let key = state.disk.make(parent, name, what, mode, (req.uid(), req.gid()))?;
            state.entry(key)
        });
        enter(made, reply);
    }
}

const CHANGES: &[Calls] = &[Calls::All, Calls::Changes];
const SYNCS: &[Calls] = &[Calls::All, Calls::Changes, Calls::Syncs];
const ATTRIBUTES: &[Calls] = &[Calls::All, Calls::Changes, Calls::Attributes];

fn enter(found: Result<(FileAttr, Generation), Errno>, reply: ReplyEntry) {
    match found {
        Ok((attributes, generation)) => reply.entry(&BELIEVED, &attributes, generation),
        Err(error) => reply.error(errno(error)),
    }
}

fn done(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn give(found: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match found {
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Face {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Files and directories need not be opened: the kernel's own references say what is in use.
        let wanted = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        config.add_capabilities(wanted).map_err(|_| std::io::ErrorKind::Unsupported)?;
        config.set_max_write(WRITE_BYTES).map_err(|_| std::io::ErrorKind::Unsupported)?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(parent, |state, parent| {
            let key = state.disk.child(parent, name)?;
            state.entry(key)
        });
        enter(found, reply);
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        let mut state = self.lock();
        let left = state.lookups.get(&ino.0).map_or(0, |lookups| lookups.saturating_sub(count));
        if left > 0 {
            state.lookups.insert(ino.0, left);
            return;
        }
        state.lookups.remove(&ino.0);
        if let Ok(key) = state.disk.by_number(ino.0) {
            state.disk.forget(key);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(ino, |state, key| attributes(&state.disk, key)) {
            Ok(attributes) => reply.attr(&BELIEVED, &attributes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let kinds = if uid.or(gid).is_some() { ATTRIBUTES } else { CHANGES };
        let call = if size.is_some() { "truncate" } else { "set attributes of" };
        let set = self.change(call, &ino.0, ino, kinds, |state, key| {
            if let Some(size) = size {
                state.disk.change_file(key, |file, remembers| file.resize(size, remembers))?;
            }
            state.disk.set(key, |node: &mut Node, now| {
                node.mode = mode.map_or(node.mode, |mode| u16::try_from(mode & 0o7777).unwrap_or(0));
                node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
                match mtime {
                    Some(TimeOrNow::SpecificTime(time)) => node.mtime = time,
                    Some(TimeOrNow::Now) => node.mtime = now,
                    None => {}
                }
            })?;
            attributes(&state.disk, key)
        });
        match set {
            Ok(attributes) => reply.attr(&BELIEVED, &attributes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.look(ino, |state, key| match &state.disk.node(key)?.what {
            What::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        });
        match target {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, mask: u32, _: u32, reply: ReplyEntry) {
        self.make(parent, name, What::File, mode & !mask, req, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, mask: u32, reply: ReplyEntry) {
        self.make(parent, name, What::Directory(Default::default()), mode & !mask, req, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(parent, name, What::Symlink(target.to_owned()), 0o777, req, reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let made = self.change("link", &name, parent, CHANGES, |state, parent| {
            let key = state.disk.by_number(ino.0)?;
            state.disk.link(key, parent, name)?;
            state.entry(key)
        });
        enter(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(
            self.change("unlink", &name, parent, CHANGES, |state, parent| state.disk.remove(parent, name, false)),
            reply,
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(
            self.change("rmdir", &name, parent, CHANGES, |state, parent| state.disk.remove(parent, name, true)),
            reply,
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replaces = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let swaps = flags.contains(RenameFlags::RENAME_EXCHANGE);
        let renamed = self.change("rename", &(name, new), parent, CHANGES, |state, parent| {
            let to = state.disk.by_number(to.0)?;
            state.disk.rename((parent, name), (to, new), replaces, swaps)
        });
        done(renamed, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.look(ino, |state, key| Ok(state.disk.file(key)?.live.read(offset, size as usize))) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let what = (ino.0, offset, data.len());
        let written = self.change("write", &what, ino, CHANGES, |state, key| {
            state.disk.change_file(key, |file, remembers| file.write(offset, data, remembers))
        });
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // As it comes, or with the size kept (1): nothing else is asked for here.
        let allocated = self.change("allocate", &ino.0, ino, CHANGES, |state, key| match mode {
            0 => {
                let end = state.disk.file(key)?.live.size.max(offset + length);
                state.disk.change_file(key, |file, remembers| file.resize(end, remembers))
            }
            1 => Ok(()),
            _ => Err(Errno::OPNOTSUPP),
        });
        done(allocated, reply);
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let found = self.look(ino, |state, key| state.disk.file(key)?.live.seek(offset.cast_unsigned(), whence));
        match found {
            Ok(offset) => reply.offset(offset.cast_signed()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, only_data: bool, reply: ReplyEmpty) {
        let synced = self.change("fsync", &ino.0, ino, SYNCS, |state, key| {
            state.syncs[0] += 1;
            state.disk.sync_file(key, only_data)
        });
        if synced.is_err() {
            let mut state = self.lock();
            if let Ok(key) = state.disk.by_number(ino.0) {
                state.disk.lose(key);
            }
        }
        done(synced, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.change("fsync of the directory", &ino.0, ino, SYNCS, |state, key| {
            state.syncs[0] += 1;
            state.disk.sync_directory(key);
            Ok(())
        });
        done(synced, reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.look(ino, |state, key| {
            let disk = &state.disk;
            let children = disk.node(key)?.children().ok_or(Errno::NOTDIR)?;
            let mut next = offset;
            for (name, child) in children.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
                next += 1;
                let found = attributes(disk, *child)?;
                if reply.add(found.ino, next, found.kind, name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let plenty = 1 << 30;
        reply.statfs(plenty, plenty, plenty, plenty, plenty, BLOCK, 255, BLOCK);
    }

    fn setxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, value: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        let set = self.change("set", &name, ino, ATTRIBUTES, |state, key| {
            state.disk.set(key, |node, _| {
                node.xattrs.insert(name.to_owned(), value.to_owned());
            })
        });
        done(set, reply);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.change("unset", &name, ino, ATTRIBUTES, |state, key| {
            if !state.disk.node(key)?.xattrs.contains_key(name) {
                return Err(Errno::NODATA);
            }
            state.disk.set(key, |node, _| {
                node.xattrs.remove(name);
            })
        });
        done(removed, reply);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if name == SIMULATED_SYNCFS && self.lock().disk.takes_syncfs {
            // With no room for an answer it is only asked whether it would be done.
            if size == 0 {
                return reply.size(0);
            }
            let synced = self.change("syncfs", &ino.0, ino, SYNCS, |state, _| {
                state.syncs[1] += 1;
                state.disk.sync_all();
                Ok(Vec::new())
            });
            if synced.is_err() {
                self.lock().disk.lose_all();
            }
            return give(synced, size, reply);
        }
        let found = self.look(ino, |state, key| state.disk.node(key)?.xattrs.get(name).cloned().ok_or(Errno::NODATA));
        give(found, size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let found = self.look(ino, |state, key| {
            let names = state.disk.node(key)?.xattrs.keys();
            Ok(names.flat_map(|name| [name.as_encoded_bytes(), &[0]].concat()).collect())
        });
        give(found, size, reply);
    }
}
