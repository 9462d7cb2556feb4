//! A comparator of two directories that shares nothing with the product but the kernel: it walks by descriptors (paths may be longer
//! than `PATH_MAX`), reads everything, and knows nothing of trees, filters or policies.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

/// A file that takes less than its length by this much has holes; a copy may take more than the original by as much.
const SPARSE_SLACK: u64 = 64 * 1024;
/// Attributes that only one machine's kernel gives a meaning.
const LOCAL_XATTRS: [&[u8]; 5] = [b"trusted.", b"security.selinux", b"security.ima", b"security.evm", b"btrfs."];

/// Everything about one path that a copy must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    /// `f`, `d`, `l`, or `s` for special.
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    /// Of a file: length and BLAKE3. Of a link: its target.
    pub(crate) content: String,
    pub(crate) xattrs: BTreeMap<String, String>,
    /// The first name of the inode, where it has several in this directory.
    pub(crate) linked_as: Option<String>,
}

/// What a path is on this machine alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Local {
    pub(crate) inode: (u64, u64),
    pub(crate) ctime: (i64, u32),
    pub(crate) size: u64,
    pub(crate) allocated: u64,
}

/// A directory as it was: by path (`.` for itself), without `.hotspare` at its top unless it was asked for.
#[derive(Clone, Default, Debug)]
pub(crate) struct Snapshot {
    pub(crate) items: BTreeMap<String, Item>,
    pub(crate) locals: BTreeMap<String, Local>,
}

impl Snapshot {
    /// Reads everything in `directory`; an error is a path that vanished meanwhile, or cannot be read.
    pub(crate) fn of(directory: &Path) -> Result<Self, String> {
        Self::take(directory, false)
    }

    /// The same with `.hotspare`.
    pub(crate) fn with_reserved(directory: &Path) -> Result<Self, String> {
        Self::take(directory, true)
    }

    fn take(directory: &Path, reserved: bool) -> Result<Self, String> {
        let mut taker = Taker { snapshot: Self::default(), inodes: BTreeMap::new(), reserved };
        let fd = rustix::fs::openat(CWD, directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let fd = fd.map_err(|error| format!("{}: {error}", directory.display()))?;
        taker.item(fd.as_fd(), c".", ".")?;
        taker.below(&fd, "")?;
        let firsts = taker.inodes.into_values().filter(|names| names.len() > 1);
        for names in firsts.collect::<Vec<_>>() {
            for name in &names {
                if let Some(item) = taker.snapshot.items.get_mut(name) {
                    item.linked_as = Some(names[0].clone());
                }
            }
        }
        Ok(taker.snapshot)
    }
}

struct Taker {
    snapshot: Snapshot,
    inodes: BTreeMap<(u64, u64), Vec<String>>,
    reserved: bool,
}

impl Taker {
    fn below(&mut self, directory: &OwnedFd, prefix: &str) -> Result<(), String> {
        let told = |error: Errno| format!("{prefix}: {error}");
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(told)? {
            let name = entry.map_err(told)?.file_name().to_owned();
            let is_reserved = prefix.is_empty() && name.as_bytes() == b".hotspare" && !self.reserved;
            if !matches!(name.as_bytes(), b"." | b"..") && !is_reserved {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            let path = format!("{prefix}{}", name.as_bytes().escape_ascii());
            if self.item(directory.as_fd(), &name, &path)? == 'd' {
                let below =
                    open(directory.as_fd(), &name, OFlags::DIRECTORY).map_err(|error| format!("{path}: {error}"))?;
                self.below(&below, &format!("{path}/"))?;
            }
        }
        Ok(())
    }

    fn item(&mut self, directory: BorrowedFd<'_>, name: &std::ffi::CStr, path: &str) -> Result<char, String> {
        let told = |error: Errno| format!("{path}: {error}");
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(told)?;
        let (kind, content) = match stat.st_mode & 0o170_000 {
            0o040_000 => ('d', String::new()),
            0o120_000 => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(told)?;
                ('l', target.as_bytes().escape_ascii().to_string())
            }
            0o100_000 => ('f', digest(directory, name).map_err(|error| format!("{path}: {error}"))?),
            _ => ('s', format!("{:o}", stat.st_mode & 0o170_000)),
        };
        let item = Item {
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(u32::MAX)),
            content,
            xattrs: xattrs(directory, name).map_err(told)?,
            linked_as: None,
        };
        if kind != 'd' && stat.st_nlink > 1 {
            self.inodes.entry((stat.st_dev, stat.st_ino)).or_default().push(path.to_owned());
        }
        self.snapshot.locals.insert(path.to_owned(), local(&stat));
        self.snapshot.items.insert(path.to_owned(), item);
        Ok(kind)
    }
}

fn local(stat: &Stat) -> Local {
    Local {
        inode: (stat.st_dev, stat.st_ino),
        ctime: (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(u32::MAX)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
    }
}

fn open(directory: BorrowedFd<'_>, name: &std::ffi::CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags, Mode::empty())
}

fn digest(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> std::io::Result<String> {
    let mut file = File::from(open(directory, name, OFlags::empty())?);
    let (mut hasher, mut length, mut buffer) = (blake3::Hasher::new(), 0, vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{length} bytes {}", hasher.finalize().to_hex())),
            count => {
                hasher.update(&buffer[..count]);
                length += count;
            }
        }
    }
}

fn xattrs(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<BTreeMap<String, String>, Errno> {
    let address = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let address = CString::new(address).map_err(|_| Errno::INVAL)?;
    let mut names = vec![0; 65_536];
    let length = match rustix::fs::llistxattr(&address, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if LOCAL_XATTRS.iter().any(|local| name.starts_with(local)) {
            continue;
        }
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(&address, name, &mut value)?;
        found.insert(name.escape_ascii().to_string(), value[..length].escape_ascii().to_string());
    }
    Ok(found)
}

/// Every way in which `copy` is not as `source`, a line each.
pub(crate) fn differences(source: &Snapshot, copy: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in source.items.iter().filter(|(_, item)| item.kind != 's') {
        let Some(other) = copy.items.get(path) else {
            found.push(format!("{path}: missing in the copy"));
            continue;
        };
        let mut differ = |what: &str, here: &dyn std::fmt::Debug, there: &dyn std::fmt::Debug| {
            let (here, there) = (format!("{here:?}"), format!("{there:?}"));
            if here != there {
                found.push(format!("{path}: {what} is {there}, not {here}"));
            }
        };
        differ("kind", &item.kind, &other.kind);
        differ("mode", &format!("{:04o}", item.mode), &format!("{:04o}", other.mode));
        differ("owner", &item.owner, &other.owner);
        differ("mtime", &item.mtime, &other.mtime);
        differ("content", &item.content, &other.content);
        differ("xattrs", &item.xattrs, &other.xattrs);
        differ("hard link", &item.linked_as, &other.linked_as);
        let (here, there) = (&source.locals[path], &copy.locals[path]);
        let is_sparse = item.kind == 'f' && here.allocated + SPARSE_SLACK < here.size;
        if is_sparse && there.allocated > here.allocated + SPARSE_SLACK {
            found.push(format!("{path}: takes {} bytes, not {}", there.allocated, here.allocated));
        }
    }
    let extra = copy.items.keys().filter(|path| source.items.get(*path).is_none_or(|item| item.kind == 's'));
    found.extend(extra.map(|path| format!("{path}: extra in the copy")));
    found
}

/// True if the kernel keeps birth times and the like for `path`; also a probe that it is there.
pub(crate) fn exists(path: &Path) -> bool {
    rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).is_ok()
}
