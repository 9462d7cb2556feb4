//! Content that the standby has already: under another path, or come ahead of the generation that needs it.

use super::ReplicaError;
use super::ahead::Ahead;
use super::content::{NewFile, PIECE, REMEMBERED_FROM};
use super::elsewhere::HOLDERS;
use super::layered::Layered;
use super::layout::{self, Area};
use super::stage::{Present, Stager};
use crate::fs::FileReader;
use crate::thought::delta::probe::{ProbeCollector, ProbePlan};
use crate::thought::digest::ContentHasher;
use crate::thought::store::Store;
use crate::thought::tree::FileMemory;
use crate::words::entry::Digest;
use crate::words::path::RelPath;

impl Stager {
    /// Takes content that is here already: one that came ahead is moved, the first time; any other is copied.
    #[expect(clippy::too_many_arguments, reason = "the fields of one action, taken apart once")]
    pub(super) fn take_held<S: Store>(
        &mut self,
        present: Present<'_, S>,
        ahead: &mut Ahead,
        operation: u32,
        slot: &RelPath,
        path: &RelPath,
        digest: Digest,
        sparse: bool,
    ) -> Result<(), ReplicaError> {
        let ours = layout::slot(Area::Stage, self.position, operation);
        let moved = match self.used.by(digest).is_some() {
            true => false,
            false => match present.root.rename(&layout::held_content(digest), &ours) {
                Err(error) if error.is_not_found() => false,
                moved => moved.map(|()| true)?,
            },
        };
        if moved {
            let (found, memory) = match ahead.taken(digest) {
                Some(memory) => (digest, memory),
                None => hash(&self.here.open_read(slot)?)?,
            };
            if found == digest {
                self.remember(operation, memory);
                self.used.note(digest, operation);
                return Ok(());
            }
            self.here.remove_file(slot)?;
        }
        for candidate in self.candidates(present, digest)? {
            let Some(source) = candidate.open(present) else { continue };
            // A catch-up does not tell of holes; what is copied keeps those it has.
            let has_holes = sparse || source.has_holes();
            let mut file = NewFile::create(&self.here, slot, source.length(), has_holes)?;
            file.copy(&source).map_err(|source| ReplicaError::Payload { path: path.clone(), source: source.into() })?;
            let (hashed, memory, _) = file.finish()?;
            if hashed.digest == digest {
                self.remember(operation, memory);
                return Ok(());
            }
            // Changed by hand since it was taken into the tree.
            self.here.remove_file(slot)?;
        }
        Err(ReplicaError::Lacking { path: path.clone(), content: digest })
    }

    /// Opens the base of a delta. Whether it is what it is taken for shows when the result is checked.
    pub(super) fn open_base<S: Store>(
        &self,
        present: Present<'_, S>,
        path: &RelPath,
        digest: Digest,
        length: u64,
    ) -> Result<Layered, ReplicaError> {
        for candidate in self.candidates(present, digest)? {
            if let Some(file) = candidate.open(present).filter(|file| file.length() == length) {
                return Ok(file);
            }
        }
        Err(ReplicaError::Lacking { path: path.clone(), content: digest })
    }

    /// Where a content should be: come ahead, staged, or in the replica.
    fn candidates<S: Store>(&self, present: Present<'_, S>, digest: Digest) -> Result<Vec<Candidate>, ReplicaError> {
        let staged = self.used.by(digest).map(|operation| layout::slot(Area::Stage, self.position, operation));
        let ahead = [layout::held_content(digest)];
        let mut candidates: Vec<Candidate> = staged.into_iter().chain(ahead).map(Candidate::Lying).collect();
        for path in present.tree.holders(digest, HOLDERS)? {
            if let Some(row) = present.tree.row(&path)? {
                candidates.push(Candidate::Entry(path, row.inode.id.ino));
            }
        }
        Ok(candidates)
    }
}

/// Where a content may be.
enum Candidate {
    /// In the file at this path.
    Lying(RelPath),
    /// At this path of the tree, in this inode.
    Entry(RelPath, u64),
}

impl Candidate {
    /// Whatever is the matter with it, there may be another.
    fn open<S: Store>(self, present: Present<'_, S>) -> Option<Layered> {
        match self {
            Self::Lying(path) => present.root.open_read(&path).ok().map(|file| Layered::plain(present.root, file)),
            Self::Entry(path, inode) => present.unrevealed.open(present.root, &path, inode).ok().flatten(),
        }
    }
}

/// The digest of a file, and what to remember of it.
fn hash(file: &FileReader) -> Result<(Digest, Option<Box<FileMemory>>), ReplicaError> {
    let size = file.opened().size;
    let plan = ProbePlan::new(size, &[0; 32], &[]).filter(|plan| plan.size() >= REMEMBERED_FROM);
    let mut probes = plan.as_ref().map(ProbeCollector::new);
    let mut hasher = ContentHasher::new();
    // One byte more than it should have shows the end without another read.
    let mut buffer = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).saturating_add(1))];
    loop {
        let at = hasher.position();
        let count = file.read_at(&mut buffer, at)?;
        hasher.update(&buffer[..count]);
        if let Some(probes) = &mut probes {
            probes.update(at, &buffer[..count]);
        }
        if count < buffer.len() {
            break;
        }
    }
    let hashed = hasher.finish();
    let probes = probes.and_then(ProbeCollector::finish);
    let memory = probes.map(|probes| Box::new(FileMemory { frontier: hashed.frontier.clone(), probes }));
    Ok((hashed.digest, memory))
}
