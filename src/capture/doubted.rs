//! Files of which not all was read: an append is hashed onto the older state, of which only samples were read again. When one has been left alone
//! for a while all of it is read, beside the cuts; where its content is another than was taken for granted, a cut captures it whole.
//!
//! **Bounds:** [`FILES`] files. Of what is beyond, and of what a restart forgets, the scrub finds what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::large::{Seen, Unread, Way};
use crate::thought::plan::Captures;
use crate::words::entry::{Body, Digest, Proof};
use crate::words::path::RelPath;

/// So many files are waited for, 4 MiB or so.
const FILES: usize = 16_384;
/// So long a file is to be left alone at least,
const QUIET: Duration = Duration::from_secs(5);
/// and a second more for each so many bytes: what is written now and then is not read all the time.
const BYTES_A_SECOND: u64 = 10 << 20;

/// Those files.
#[derive(Debug, Default)]
pub(super) struct Doubted {
    files: BTreeMap<RelPath, Doubt>,
    /// Those that turned out to be others.
    wrong: BTreeSet<RelPath>,
}

#[derive(Debug)]
struct Doubt {
    seen: Seen,
    digest: Digest,
    since: Instant,
}

impl Doubted {
    /// Takes note of what was captured at `now`.
    pub(super) fn note(&mut self, captures: &Captures, now: Instant) {
        for (path, found) in captures {
            let probed = found.as_ref().and_then(|present| match present.entry.body {
                Body::File { digest, proof: Proof::Probed, .. } => Some((Seen::of_present(present), digest)),
                _ => None,
            });
            match probed {
                Some((seen, digest)) if self.files.len() < FILES || self.files.contains_key(path) => {
                    self.files.insert(path.clone(), Doubt { seen, digest, since: now });
                }
                _ => drop(self.files.remove(path)),
            }
        }
    }

    /// One that has been left alone for long enough.
    pub(super) fn due(&self, now: Instant) -> Option<Unread> {
        let quiet = |doubt: &Doubt| QUIET + Duration::from_secs(doubt.seen.size / BYTES_A_SECOND);
        let mut due = self.files.iter().filter(|(_, doubt)| now.saturating_duration_since(doubt.since) >= quiet(doubt));
        due.next().map(|(path, doubt)| Unread { path: path.clone(), seen: doubt.seen, way: Way::Ahead(None) })
    }

    /// One was read, and has this content; `None` if it was another file by then, or cannot be read: whoever changed it is heard of.
    pub(super) fn was_read(&mut self, unread: &Unread, content: Option<Digest>) {
        let doubt = match self.files.get(&unread.path) {
            Some(doubt) if doubt.seen == unread.seen => self.files.remove(&unread.path),
            _ => None,
        };
        if let (Some(doubt), Some(content)) = (doubt, content)
            && doubt.digest != content
        {
            self.wrong.insert(unread.path.clone());
        }
    }

    /// Those that are to be captured whole.
    pub(super) fn take_wrong(&mut self) -> BTreeSet<RelPath> {
        std::mem::take(&mut self.wrong)
    }
}
