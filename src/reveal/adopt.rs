//! Taking possession of a directory: an empty one, a replica of this home, or, if a person says so, anything else.

use std::str::FromStr;

use super::replica::{Opening, ReplicaOptions};
use super::{ReplicaError, layout, marker, recovery};
use crate::capture::{Captured, Capturer, How};
use crate::fs::{FsError, Root, XattrPolicy};
use crate::index::Index;
use crate::spool::Spool;
use crate::thought::filter::Filter;
use crate::thought::tree::{Row, Tree};
use crate::words::entry::Body;
use crate::words::path::RelPath;
use crate::words::position::HomeId;

/// Makes the directory a replica of `home`, or says why it cannot be one.
pub(super) fn take_possession(root: &Root, options: &ReplicaOptions, home: HomeId) -> Result<Opening, ReplicaError> {
    let path = || options.home.clone();
    match marker::read(root)? {
        Some(found) if found == home => return Ok(Opening::Recovered(0)),
        Some(found) => return Err(ReplicaError::OtherHome { path: path(), found }),
        None => {}
    }
    let is_ours = |name: &crate::words::path::Name| name.as_bytes() == crate::words::path::RESERVED;
    let is_empty =
        root.list(&RelPath::root())?.iter().all(|(name, _)| is_ours(name) || name.as_bytes() == b"lost+found");
    if !is_empty && !options.adopt {
        return Err(ReplicaError::NoReplica { path: path() });
    }
    // Where there is an index there was a replica: what is there now is the directory below its mount point, as like as not.
    if is_empty && !options.anew && options.index().exists() {
        return Err(ReplicaError::Gone { path: path() });
    }
    // An index from before is of another disk. It goes first: with a marker it would be believed.
    recovery::forget_index(&options.index())?;
    marker::write(root, home)?;
    Ok(if is_empty { Opening::Empty } else { Opening::Adopted })
}

/// An error if nothing can be written here: one that stands where it should may be opened without writing anything, and would fail at the first
/// generation. A full disk is none: that is judged by what is to come.
pub(super) fn check_writable(root: &Root) -> Result<(), FsError> {
    let path = layout::temporary();
    root.remove_tree(&path)?;
    match root.create_file(&path) {
        Err(error) if error.is_no_space() => Ok(()),
        created => created.and_then(|_| root.remove_file(&path)),
    }
}

/// The row of the replica's root as it is on disk.
pub(super) fn root_row(root: &Root, xattrs: &XattrPolicy) -> Result<Row, ReplicaError> {
    let stat = root.stat(&RelPath::root())?.ok_or(ReplicaError::NoReplica { path: root.path().into() })?;
    let xattrs = root.xattrs(&RelPath::root(), xattrs)?;
    Ok(Row::new(stat.entry(Body::Directory, xattrs, None), stat.inode))
}

/// Reads everything below `top` on disk, content and all, into `tree`, where it is a directory without children.
pub(super) fn read_tree(
    root: &Root,
    tree: &mut Tree<Index>,
    options: &ReplicaOptions,
    top: &RelPath,
) -> Result<(), ReplicaError> {
    let spool = Spool::create(&options.state)?;
    let mut capturer = Capturer::new(spool, [0; 32], options.xattrs.clone(), false);
    let mut below = vec![top.clone()];
    // A replica is read whole: what the primary leaves out is for the primary to say.
    let everything = Filter::everything();
    let _pass = root.pass();
    while let Some(directory) = below.pop() {
        for (name, _) in root.list(&directory)? {
            let path = directory.join(&name);
            if path.is_reserved() {
                continue;
            }
            let captured = capturer.capture(root, &everything, tree, &path, How::Believed);
            let captured = captured.map_err(|source| ReplicaError::Read { path: path.clone(), source })?;
            let Captured::Present(present) = captured else {
                tracing::warn!(%path, "not taken into the index of the replica: {captured:?}");
                continue;
            };
            if present.entry.is_directory() {
                below.push(path.clone());
            }
            let row = Row { entry: present.entry, inode: present.inode, directory: None, memory: present.memory };
            tree.attach(&path, row)?;
        }
        if tree.store().wants_commit() {
            tree.store_mut().commit()?;
        }
    }
    Ok(())
}

impl FromStr for HomeId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return Err(());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}
