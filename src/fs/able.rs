//! What of an entry's attributes can be held here: by this process, and by this file system.

use rustix::fs::{Mode, OFlags, XattrFlags, fsetxattr, openat};
use rustix::io::Errno;

use super::attributes::{Privilege, SETGID, SETUID, Unheld};
use super::root::Root;
use super::xattr::{ACCESS_ACL, CAPABILITY, DEFAULT_ACL};
use crate::words::entry::{Digest, Entry, Kind};

/// An access ACL that says what mode 0600 says (version 2; user, group, others).
const PLAIN_ACL: [u8; 28] =
    [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255];

/// What of an entry's attributes can be held here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Able {
    /// The user and the groups to which alone files can be given; `None`: to all.
    owners: Option<(u32, Vec<u32>)>,
    capabilities: bool,
    user_xattrs: bool,
    acls: bool,
}

impl Able {
    /// Everything can be held.
    pub fn everything() -> Self {
        Self { owners: None, capabilities: true, user_xattrs: true, acls: true }
    }

    /// What `privilege` allows to a process of user `uid` and these groups, on a file system that can do all.
    pub fn of(privilege: &Privilege, uid: u32, groups: Vec<u32>) -> Self {
        let owners = (!privilege.chown).then_some((uid, groups));
        Self { owners, capabilities: privilege.file_capabilities, ..Self::everything() }
    }

    /// What the calling thread can do now, on the file system of `root`: tried on a file without a name. Where there are no such
    /// files the file system is taken to be able to do all.
    pub fn detect(root: &Root) -> Self {
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw).collect();
        groups.push(rustix::process::getegid().as_raw());
        groups.sort_unstable();
        groups.dedup();
        let mut able = Self::of(&Privilege::detect(), rustix::process::geteuid().as_raw(), groups);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = openat(root.fd(), ".", flags, Mode::from_raw_mode(0o600)) {
            let takes = |name: &str, value: &[u8]| {
                !matches!(fsetxattr(&file, name, value, XattrFlags::empty()), Err(Errno::OPNOTSUPP))
            };
            able.user_xattrs = takes("user.hotspare", b"1");
            able.acls = takes("system.posix_acl_access", &PLAIN_ACL);
        }
        able
    }

    /// True if files can be given to anyone.
    pub fn owners(&self) -> bool {
        self.owners.is_none()
    }

    /// True if file capabilities can be set.
    pub fn capabilities(&self) -> bool {
        self.capabilities
    }

    /// True if the file system takes `user.*` attributes.
    pub fn user_xattrs(&self) -> bool {
        self.user_xattrs
    }

    /// True if the file system takes POSIX ACLs.
    pub fn acls(&self) -> bool {
        self.acls
    }

    /// What tells one from another.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }

    /// What of `entry` cannot be held.
    pub fn lacks(&self, entry: &Entry) -> Unheld {
        let mut unheld = Unheld::default();
        if let Some((uid, groups)) = &self.owners {
            unheld.owner = entry.uid != *uid;
            unheld.group = !groups.contains(&entry.gid);
            if entry.kind() != Kind::Symlink {
                let lost = u16::from(unheld.owner) * SETUID + u16::from(unheld.group && !entry.is_directory()) * SETGID;
                unheld.mode = entry.mode & lost;
            }
        }
        let names = entry.xattrs.iter().map(|(name, _)| name).filter(|name| !self.takes(name));
        unheld.xattrs = names.map(Into::into).collect();
        unheld
    }

    fn takes(&self, name: &[u8]) -> bool {
        match name {
            ACCESS_ACL | DEFAULT_ACL => self.acls,
            CAPABILITY => self.capabilities,
            _ => self.user_xattrs || !name.starts_with(b"user."),
        }
    }
}
