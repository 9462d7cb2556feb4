//! Capture: what is at a dirty path, read, hashed and encoded; and the round that makes a cut of it (`round`).

mod clock;
mod doubted;
mod file;
mod fitting;
mod gather;
mod grown;
mod large;
mod leave;
mod links;
mod proof;
mod reading;
mod round;
mod signatures;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::fs::{FileType, FsError, Look, Readable, Special, Stat, XattrPolicy};
use crate::spool::Spool;
use crate::thought::delta::diff::DiffError;
use crate::thought::filter::Filter;
use crate::thought::plan::{Encoded, Identities, Identity, Present};
use crate::thought::store::Store;
use crate::thought::tree::{FileMemory, Row, Tree, TreeError};
use crate::words::entry::{Body, InodeId, Kind, LinkId};
use crate::words::path::RelPath;

use file::Subject;

pub use clock::Moment;
pub use large::{Joined, LARGE_FROM_BYTES, Larges, Offer, Unread};
pub use reading::read_large;
pub use round::{Cut, CutError, RoundOptions, cut};
pub use signatures::Signatures;

/// Why a path could not be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file refused.
    #[error(transparent)]
    File(FsError),
    /// The file is large and left for a later cut.
    #[error("the file is sent ahead")]
    Left,
    /// The file became shorter while it was read.
    #[error("the file became shorter while it was read")]
    Shrank,
    /// Reading the file or writing the spool failed.
    #[error("cannot read the file, or cannot write the spool")]
    Io(#[from] io::Error),
    /// The delta search failed.
    #[error("cannot make a delta")]
    Diff(#[from] DiffError),
    /// The index failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// How the content of a file is captured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum How {
    /// What the tree knows of it is believed if its times say so.
    Believed,
    /// The same if it has no other name: some file was written, by whatever name.
    BelievedUnlessLinked,
    /// What was read of it beside the cuts is believed, not what the tree knows: it was written before that.
    Recalled,
    /// It is read: it was written, and times are set before bytes are.
    Read,
    /// It is taken whole even where it is known or could be a change of what is known.
    Whole,
}

/// What became of one path.
#[derive(Debug)]
pub enum Captured {
    /// Nothing is there, or something that is never replicated.
    Absent(Option<Special>),
    /// It was captured.
    Present(Box<Present>),
    /// It cannot be read; what the tree knows of it stays.
    Unreadable(FsError),
    /// It changed while it was read: it must be captured again.
    Unsteady,
    /// It is large, and goes to the standbys ahead of a later cut.
    Left,
}

/// A file's content, captured.
pub(crate) struct Taken {
    body: Body,
    memory: Option<Box<FileMemory>>,
    encoded: Encoded,
}

/// Captures paths of one home into one spool.
pub struct Capturer {
    xattrs: XattrPolicy,
    secret: [u8; 32],
    spool: Spool,
    ships: bool,
    /// Every content is taken whole.
    takes_whole: bool,
    identities: Identities,
    /// Content of hard-linked inodes captured already, so that each is read once.
    linked: BTreeMap<InodeId, Present>,
    /// Signatures of new contents, for the tree to keep.
    signatures: signatures::Kept,
    /// What is known of large files, if they are to be sent ahead.
    larges: Option<Arc<Larges>>,
    /// Files of which only a part was taken.
    pub(crate) begun: BTreeSet<RelPath>,
    /// How much content was read.
    read_bytes: u64,
    /// Files whose content was read whole in this round.
    pub(crate) read: BTreeSet<InodeId>,
    /// Inodes with more names than the tree and the captures know: (a name, how many).
    pub(crate) many_names: BTreeMap<InodeId, (RelPath, u32)>,
}

impl Capturer {
    /// A capturer that writes payloads into `spool`, if `ships`; otherwise it only reads and hashes. `secret` is this node's own, for the
    /// offsets of samples.
    pub fn new(spool: Spool, secret: [u8; 32], xattrs: XattrPolicy, ships: bool) -> Self {
        Self {
            xattrs,
            secret,
            spool,
            ships,
            takes_whole: false,
            identities: Identities::default(),
            linked: BTreeMap::new(),
            signatures: signatures::Kept::default(),
            larges: None,
            begun: BTreeSet::new(),
            read_bytes: 0,
            read: BTreeSet::new(),
            many_names: BTreeMap::new(),
        }
    }

    /// The spool, and the signatures of new contents.
    pub fn finish(self) -> (Spool, Signatures) {
        let signatures = Signatures::new(self.spool.reader(), self.signatures);
        (self.spool, signatures)
    }

    /// Takes the content of every file whole: for a standby that has no older one.
    #[must_use]
    pub fn taking_whole(self) -> Self {
        Self { takes_whole: true, ..self }
    }

    /// Leaves large files for later as `larges` says.
    #[must_use]
    pub fn sending_ahead(self, larges: &Arc<Larges>) -> Self {
        Self { larges: Some(Arc::clone(larges)), ..self }
    }

    /// How many bytes of content were read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Begins a round: identities are worked out anew, parents first.
    pub(crate) fn begin(&mut self) {
        self.identities.begin();
        self.linked.clear();
    }

    /// Captures `path`; what `filter` leaves out counts as absent.
    pub fn capture<S: Store>(
        &mut self,
        root: &impl Look,
        filter: &Filter,
        tree: &Tree<S>,
        path: &RelPath,
        how: How,
    ) -> Result<Captured, CaptureError> {
        let how = if self.takes_whole { How::Whole } else { how };
        match self.try_capture(root, filter, tree, path, how) {
            Ok(captured) => Ok(captured),
            Err(CaptureError::Shrank) => Ok(Captured::Unsteady),
            Err(CaptureError::Left) => Ok(Captured::Left),
            Err(CaptureError::File(error)) if error.is_not_found() || error.is_refused_link() => Ok(Captured::Unsteady),
            Err(CaptureError::File(FsError::WrongKind { .. })) => Ok(Captured::Unsteady),
            Err(CaptureError::File(error)) => Ok(Captured::Unreadable(error)),
            Err(error) => Err(error),
        }
    }

    fn try_capture<S: Store>(
        &mut self,
        root: &impl Look,
        filter: &Filter,
        tree: &Tree<S>,
        path: &RelPath,
        how: How,
    ) -> Result<Captured, CaptureError> {
        let found = root.stat(path).map_err(CaptureError::File)?;
        let Some(stat) = found.filter(|stat| !filter.leaves_out_within(path, stat.is_directory())) else {
            self.identities.absent(tree, path)?;
            return Ok(Captured::Absent(None));
        };
        let kind = match stat.what {
            FileType::File => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Special(special) => {
                self.identities.absent(tree, path)?;
                return Ok(Captured::Absent(Some(special)));
            }
        };
        let slot = self.identities.old_slot(path);
        let identity = self.identities.present(tree, path, kind, &stat.inode)?;
        let link = (kind != Kind::Directory && stat.inode.nlink > 1).then(|| link_id(stat.inode.id));
        let how = match how {
            How::BelievedUnlessLinked if link.is_some() => How::Read,
            How::BelievedUnlessLinked => How::Believed,
            how => how,
        };
        if link.is_some() {
            self.many_names.insert(stat.inode.id, (path.clone(), stat.inode.nlink));
            let suits = |known: &&Present| {
                known.inode == stat.inode && (how < How::Whole || matches!(known.encoded, Encoded::New { .. }))
            };
            if let Some(known) = self.linked.get(&stat.inode.id).filter(suits) {
                return Ok(Captured::Present(Box::new(known.clone())));
            }
        }
        let xattrs = root.xattrs(path, &self.xattrs).map_err(CaptureError::File)?;
        let taken = match kind {
            Kind::Directory => Taken { body: Body::Directory, memory: None, encoded: Encoded::Unchanged },
            Kind::Symlink => {
                let target = root.read_link(path).map_err(CaptureError::File)?;
                let encoded =
                    Encoded::New { content: crate::thought::generation::Content::None, payload: None, sparse: false };
                Taken { body: Body::Symlink { target }, memory: None, encoded }
            }
            Kind::File => {
                let base = match slot {
                    Some(old) => tree.row(&old)?,
                    None => None,
                };
                let file = root.open_read(path).map_err(CaptureError::File)?;
                let opened = file.opened();
                if opened.inode.id != stat.inode.id {
                    return Ok(Captured::Unsteady);
                }
                return self.finish_file(tree, path, &file, opened, &identity, base.as_ref(), how, xattrs, link);
            }
        };
        Ok(self.present(&stat, taken, xattrs, link))
    }

    #[expect(clippy::too_many_arguments, reason = "one continuation of try_capture, called once")]
    fn finish_file<S: Store>(
        &mut self,
        tree: &Tree<S>,
        path: &RelPath,
        file: &impl Readable,
        stat: &Stat,
        identity: &Identity,
        base: Option<&Row>,
        how: How,
        xattrs: crate::words::entry::Xattrs,
        link: Option<LinkId>,
    ) -> Result<Captured, CaptureError> {
        let taken = self.file(tree, file, &Subject { path, stat, old: identity.row(), base, how })?;
        tracing::trace!(%path, encoded = ?taken.encoded, "captured");
        Ok(self.present(stat, taken, xattrs, link))
    }

    fn present(
        &mut self,
        stat: &Stat,
        taken: Taken,
        xattrs: crate::words::entry::Xattrs,
        link: Option<LinkId>,
    ) -> Captured {
        let entry = stat.entry(taken.body, xattrs, link);
        let present = Present { entry, inode: stat.inode, memory: taken.memory, encoded: taken.encoded };
        if link.is_some() {
            self.linked.insert(stat.inode.id, present.clone());
        }
        Captured::Present(Box::new(present))
    }
}

/// The link id of an inode: the same for all its names, and after a restart.
pub fn link_id(id: InodeId) -> LinkId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.dev.to_le_bytes());
    bytes[8..].copy_from_slice(&id.ino.to_le_bytes());
    let hash = blake3::hash(&bytes);
    let mut short = [0; 8];
    short.copy_from_slice(&hash.as_bytes()[..8]);
    LinkId(u64::from_le_bytes(short))
}

/// What a round asks for beyond what is dirty.
pub(crate) type Wanted = BTreeSet<RelPath>;
