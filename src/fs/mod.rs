//! Floor 2: the hands. Every system call on a home goes through [`Root`]; every file outside a home through [`state`].
//!
//! **Invariant (G8):** nothing here follows a symbolic link below the root, or reaches outside it. A path is resolved to
//! (descriptor of its parent, name) by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`, in
//! steps below `PATH_MAX` so that depth has no limit; what is done is then done to the name, by a call that does not follow
//! it. Where `openat2` is missing or forbidden (old kernels, old seccomp profiles) the parent is walked name by name with
//! `O_NOFOLLOW`. The root itself is the one path that may be reached through links: it is a person's choice.
//!
//! **Invariant:** deliberately absent are reflinks and hard links made by copying (content is never shared between a
//! replica, its stage and its history: an in-place write must not need new blocks), a rename that replaces, and `O_TMPFILE` for anything that is to stay.
//!
//! Calls block and are made from blocking threads. A [`Root`] can be shared between threads.
//!
//! | file | what |
//! |---|---|
//! | `error` | [`FsError`]: the operation that failed, its path, the kernel's word |
//! | `root` | [`Root`] and the resolution of paths |
//! | `pass` | [`Pass`]: directories kept open for a run through a tree |
//! | `stat` | [`Stat`], listings, link targets |
//! | `content` | [`FileReader`], [`FileWriter`] |
//! | `look` | [`Look`]: what of this a walk and a capture ask for |
//! | `names` | directories, links, renames, removal |
//! | `remove` | removal of whole trees |
//! | `able` | [`Able`]: what of an entry can be held here |
//! | `attributes` | owner, mode, times |
//! | `xattr` | extended attributes and ACLs |
//! | `mounts` | what is mounted, and what tells a directory from another in its place |
//! | `sync` | durability, and facts about the file system |
//! | [`state`] | a node's own files, outside any home |

mod able;
mod attributes;
mod content;
mod error;
mod look;
mod mounts;
mod names;
mod pass;
mod remove;
mod root;
mod stat;
pub mod state;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod xattr;

pub use able::Able;
pub use attributes::{Privilege, Unheld};
pub use content::{DataRanges, FileReader, FileWriter};
pub use error::{FsError, is_no_space};
pub use look::{Look, Readable};
pub use mounts::{Identity, MountTable};
pub use pass::Pass;
pub use root::Root;
pub use stat::{FileType, Special, Stat};
pub use sync::{FilesystemKind, Space};
pub use xattr::XattrPolicy;
