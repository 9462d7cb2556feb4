//! Extended attributes, among them POSIX ACLs.
//!
//! They are reached as `/proc/self/fd/<parent>/<name>` by the calls that do not follow links, since Linux before 6.13 has none
//! that take a directory descriptor: so files that may not be opened, and links, have theirs too.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use rustix::fs::{self, OFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Unheld, chmod_open};
use super::error::{FsError, failed};
use super::root::{Place, Root};
use super::stat::stat_name;
use crate::words::entry::{Entry, XATTRS_CAP, Xattr, Xattrs};
use crate::words::path::RelPath;

pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// The longest list of names, and the longest value, that Linux passes on.
const LINUX_CAP: usize = 64 * 1024;

/// Which extended attributes are part of an entry.
///
/// By default `user.*`, POSIX ACLs and file capabilities. Labels that one machine's kernel gives for itself (`security.selinux`,
/// `security.ima`, `security.evm` and their like), `trusted.*` (overlayfs keeps its own there), and what file systems invent
/// (`system.nfs4_acl`, `btrfs.*`, `ceph.*`) are not: they mean nothing, or something else, elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XattrPolicy {
    user: bool,
    acls: bool,
    capabilities: bool,
    left_out: Vec<Box<[u8]>>,
}

impl Default for XattrPolicy {
    fn default() -> Self {
        Self { user: true, acls: true, capabilities: true, left_out: Vec::new() }
    }
}

impl XattrPolicy {
    /// No extended attributes at all.
    pub fn none() -> Self {
        Self { user: false, acls: false, capabilities: false, left_out: Vec::new() }
    }

    /// This policy, but for the attribute `name`.
    #[must_use]
    pub fn without(mut self, name: &[u8]) -> Self {
        self.left_out.push(name.into());
        self
    }

    /// True if the attribute `name` is part of an entry.
    pub fn covers(&self, name: &[u8]) -> bool {
        let known = match name {
            ACCESS_ACL | DEFAULT_ACL => self.acls,
            CAPABILITY => self.capabilities,
            _ => self.user && name.starts_with(b"user."),
        };
        known && !self.left_out.iter().any(|left_out| **left_out == *name)
    }

    fn covers_nothing(&self) -> bool {
        !(self.user || self.acls || self.capabilities)
    }
}

impl Root {
    /// The extended attributes of `path`, itself, that `policy` covers; none where the file system has none.
    pub fn xattrs(&self, path: &RelPath, policy: &XattrPolicy) -> Result<Xattrs, FsError> {
        if policy.covers_nothing() {
            return Ok(Xattrs::default());
        }
        self.place(path).and_then(|place| read(&address(&place), policy)).map_err(failed!(ReadXattrs, path))
    }
}

impl Root {
    /// True if what is made directly in the root has no extended attributes of its own accord: no default ACL that it would inherit.
    pub fn makes_bare(&self) -> Result<bool, FsError> {
        let own = self.xattrs(&RelPath::root(), &XattrPolicy::default())?;
        Ok(own.value(DEFAULT_ACL).is_none())
    }
}

/// The name of a place for calls that take no directory descriptor.
fn address(place: &Place<'_>) -> CString {
    let mut bytes = format!("/proc/self/fd/{}/", place.dir().as_raw_fd()).into_bytes();
    bytes.extend_from_slice(place.name().as_bytes());
    CString::new(bytes).unwrap_or_default()
}

fn read(address: &CString, policy: &XattrPolicy) -> Result<Xattrs, Errno> {
    let names = match grown(|buffer| fs::llistxattr(address, buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok(Xattrs::default()),
        Err(source) => return Err(source),
    };
    let mut found = Vec::new();
    let mut total = 0;
    for name in names.split(|&byte| byte == 0).filter(|name| policy.covers(name)) {
        let value = match grown(|buffer| fs::lgetxattr(address, name, buffer)) {
            Ok(value) => value,
            // Removed since it was listed, or listed by a file system that cannot tell it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(source) => return Err(source),
        };
        total += name.len() + value.len();
        if total > XATTRS_CAP {
            return Err(Errno::TOOBIG);
        }
        found.push(Xattr { name: name.into(), value: value.into() });
    }
    Ok(Xattrs::new(found))
}

/// Reads into a buffer that grows until all fits.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LINUX_CAP => buffer.resize(buffer.len() * 4, 0),
            Err(source) => return Err(source),
        }
    }
}

/// Makes the covered attributes of `place` those of `entry`; true if anything was tried, which may
/// have changed the mode. What may not be set is put down as
/// unheld.
pub(super) fn replace(
    place: &Place<'_>,
    path: &RelPath,
    entry: &Entry,
    policy: &XattrPolicy,
    unheld: &mut Unheld,
) -> Result<bool, FsError> {
    if policy.covers_nothing() {
        return Ok(false);
    }
    let address = address(place);
    let mut changed = false;
    let present = match read(&address, policy) {
        Err(Errno::ACCESS) => {
            changed = true;
            widen(place).and_then(|()| read(&address, policy))
        }
        done => done,
    }
    .map_err(failed!(ReadXattrs, path))?;
    let mut note = |name: &[u8], result: Result<(), Errno>| {
        changed = true;
        match result {
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL | Errno::TOOBIG | Errno::RANGE) => {
                unheld.xattrs.push(name.into());
                Ok(())
            }
            Err(source) => Err(failed!(SetXattr, path, name: String::from_utf8_lossy(name).escape_debug())(source)),
        }
    };
    for (name, _) in present.iter().filter(|(name, _)| entry.xattrs.value(name).is_none()) {
        let removed = match writable(place, || fs::lremovexattr(&address, name)) {
            Err(Errno::NODATA) => Ok(()),
            done => done,
        };
        note(name, removed)?;
    }
    for (name, value) in entry.xattrs.iter().filter(|(name, value)| present.value(name) != Some(*value)) {
        if policy.covers(name) {
            note(name, writable(place, || fs::lsetxattr(&address, name, value, XattrFlags::empty())))?;
        }
    }
    Ok(changed)
}

/// Does `change`; if the file's own mode forbids it (`user.*` needs write permission), once more with the owner allowed to.
fn writable(place: &Place<'_>, change: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match change() {
        Err(Errno::ACCESS) => widen(place).and_then(|()| change()),
        done => done,
    }
}

/// Lets the owner read and write; the caller sets the mode afterwards.
fn widen(place: &Place<'_>) -> Result<(), Errno> {
    let mode = stat_name(place.dir(), place.name())?.mode;
    chmod_open(&place.open(OFlags::PATH)?, mode | 0o600)
}
