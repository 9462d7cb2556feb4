//! Bundles: what was in a replica and belonged to no generation of its history, put aside whole and listed (G6).
//!
//! `bundles/replaced-<position>/` is what the first generation replaced in a directory that was taken over: each thing that it took away, under
//! the number of the operation; each file that it wrote into, as it was, as `<operation>.old`; and the list `paths`.
//! `bundles/<position>/` is what lay in the way of a later generation, under the number of the operation, with its path as
//! `<operation>.path`.
//!
//! **Format of `paths`, version 1:** the line `hotspare replaced 1`, then a line for each thing: its name in the bundle (`-` if only
//! attributes changed), mode in octal, owner, group, modification time in seconds with nanoseconds, path. In the path every byte that is not a
//! printable ASCII character, and the backslash, is `\xNN`.

use std::fmt::Write as _;

use super::ReplicaError;
use super::layout::{self, Area};
use super::operations::Journalled;
use crate::fs::{FileWriter, FsError, Root};
use crate::thought::generation::{Action, PreImage};
use crate::thought::tree::ApplyError;
use crate::words::entry::Entry;
use crate::words::path::RelPath;
use crate::words::position::Position;

/// The list of what is in a bundle.
pub(super) const LIST: &str = "paths";
/// How many bundles of one position there may be.
const SAME_NAME: u32 = 1000;

/// Makes `reveal/<position>` a whole bundle, which only wants its name. May be done again.
pub(super) fn prepare(root: &Root, position: Position, operations: Journalled<'_>) -> Result<(), ReplicaError> {
    let list = layout::in_reveal(position, LIST);
    root.remove_tree(&list)?;
    let mut list = List { file: root.create_file(&list)?, at: 0, text: "hotspare replaced 1\n".into() };
    operations
        .each(&mut |journalled| {
            let operation = &journalled.operation;
            let failed = |error: FsError| ApplyError::Source(Box::new(error));
            let old_path = match &operation.action {
                Action::Remove { path } | Action::Edit { path, .. } | Action::Attributes { path, .. } => path,
                _ => return Ok(()),
            };
            match &journalled.before {
                PreImage::Taken { entry } => list.add(&operation.id.to_string(), entry, old_path),
                PreImage::Attributes { entry } => list.add("-", entry, old_path),
                PreImage::Edited { entry, .. } => {
                    let name = format!("{}.old", operation.id);
                    let kept = layout::in_reveal(position, &name);
                    match root.rename(&layout::old_blocks(position, operation.id), &kept) {
                        Err(error) if !error.is_not_found() => return Err(failed(error)),
                        _ => {}
                    }
                    list.add(&name, entry, old_path)
                }
                PreImage::None => Ok(()),
            }
            .map_err(failed)
        })
        .map_err(|source| ReplicaError::Apply { position, source })?;
    Ok(list.write()?)
}

/// Gives the bundle its name, if there is one; durably.
pub(super) fn keep(root: &Root, position: Position) -> Result<(), ReplicaError> {
    match root.make_directory(&layout::area(Area::Bundles), 0o700) {
        Err(error) if !error.is_existing() => return Err(error.into()),
        _ => {}
    }
    for number in 0..SAME_NAME {
        let bundle = layout::replaced(position, number);
        match root.rename(&layout::of(Area::Reveal, position), &bundle) {
            Err(error) if error.is_existing() => continue,
            Err(error) if error.is_not_found() => return Ok(()),
            moved => moved?,
        }
        tracing::warn!(%bundle, "what this directory held before was put aside");
        root.sync_directory(&layout::area(Area::Bundles))?;
        break;
    }
    Ok(())
}

/// The list, being written.
struct List {
    file: FileWriter,
    at: u64,
    text: String,
}

impl List {
    fn add(&mut self, name: &str, entry: &Entry, path: &RelPath) -> Result<(), FsError> {
        let Entry { mode, uid, gid, mtime, .. } = entry;
        // Writing into a string cannot fail.
        write!(self.text, "{name} {mode:04o} {uid} {gid} {}.{:09} ", mtime.seconds, mtime.nanoseconds).ok();
        for &byte in path.as_bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'\\' {
                self.text.push(char::from(byte));
            } else {
                write!(self.text, "\\x{byte:02x}").ok();
            }
        }
        self.text.push('\n');
        if self.text.len() > 1 << 16 { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), FsError> {
        self.file.write_at(self.text.as_bytes(), self.at)?;
        self.at += self.text.len() as u64;
        self.text.clear();
        Ok(())
    }
}
