//! Probes: samples of a large content that tell whether it was only appended to, without reading it again.
//!
//! The head, the end and several ranges at secret offsets are digested. When the content has grown and all of them are still the
//! same, the part before the old end is taken to be the same: then the entry is `probed`, not `hashed`, until it is read whole. A file that
//! was truncated and written anew past its old length (which looks just like an append) differs in all of them.
//!
//! The offsets come from a node's secret and the file's identity, so nobody can write around them. Each time the content
//! has doubled, more are added in what is new, so that a probe is never far from any byte, in proportion.
//!
//! **Offsets.** Probe `i` (`u32`) of the region from `low` to `high` begins at `low + n mod (high - low - 4096 + 1)`, where `n` is the first 8
//! bytes, little-endian, of BLAKE3 keyed with the secret over `low u64, high u64, i u32, identity`.
//!
//! **Probes, version 1**, by serde: (version `u8`, size `u64`, spread `u64`, list of (offset `u64`, 16 bytes)). **Invariants:** size is at
//! least 1 MiB; at most [`PROBES_CAP`] probes, ascending, the first at 0, the last at size - 4096; spread is between 1 MiB and the size.

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ReadAt, Span, read_full};

/// The length of one probe in bytes: a page.
pub const PROBE_BYTES: u64 = 4096;
/// Contents below this many bytes are not probed but always read whole.
pub const PROBED_FROM: u64 = 1 << 20;
/// The most probes of one content: head, end, [`SECRET_PROBES`] and [`PROBES_PER_DOUBLING`] for each of 43 doublings are 94.
pub const PROBES_CAP: usize = 96;
/// How many secret offsets a content gets when it is first read.
pub const SECRET_PROBES: u32 = 6;
/// How many it gets more for each time it doubles.
pub const PROBES_PER_DOUBLING: u32 = 2;
/// The version this build writes and reads.
const PROBES_VERSION: u8 = 1;
/// [`PROBE_BYTES`], for buffers.
const PROBE: usize = 4096;

/// Which ranges of a content are to be probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbePlan {
    size: u64,
    spread: u64,
    offsets: Vec<u64>,
}

impl ProbePlan {
    /// For a content of `size` bytes read for the first time: head, end, and [`SECRET_PROBES`] offsets that only who holds `secret` can tell.
    /// `identity` is whatever tells files apart on this node. None below [`PROBED_FROM`].
    pub fn new(size: u64, secret: &[u8; 32], identity: &[u8]) -> Option<Self> {
        if size < PROBED_FROM {
            return None;
        }
        let mut offsets = vec![0, size - PROBE_BYTES];
        offsets.extend((0..SECRET_PROBES).map(|index| secret_offset(0, size, index, secret, identity)));
        Some(Self::sorted(size, size, offsets))
    }

    /// Length of the content in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The ranges, each of [`PROBE_BYTES`], ascending by offset; they may overlap.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> {
        self.offsets.iter().map(|offset| Span { offset: *offset, len: PROBE_BYTES })
    }

    fn sorted(size: u64, spread: u64, mut offsets: Vec<u64>) -> Self {
        offsets.sort_unstable();
        offsets.dedup();
        Self { size, spread, offsets }
    }
}

/// Where probe `index` of the bytes from `low` to `high` begins; the region must be at least one probe long.
fn secret_offset(low: u64, high: u64, index: u32, secret: &[u8; 32], identity: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&low.to_le_bytes()).update(&high.to_le_bytes()).update(&index.to_le_bytes()).update(identity);
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    low + u64::from_le_bytes(bytes) % (high - low - PROBE_BYTES + 1)
}

/// The first 16 bytes of the BLAKE3 of one probed range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Sample {
    offset: u64,
    digest: [u8; 16],
}

impl Sample {
    fn new(offset: u64, hash: &blake3::Hash) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.as_bytes()[..16]);
        Self { offset, digest }
    }

    /// None if the content ends within the range.
    fn read(content: &dyn ReadAt, offset: u64) -> io::Result<Option<Self>> {
        let mut buffer = [0; PROBE];
        let found = read_full(content, &mut buffer, offset)?;
        Ok((found == PROBE).then(|| Self::new(offset, &blake3::hash(&buffer))))
    }
}

/// Why stored bytes are no probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProbesError {
    /// Written by a later build.
    #[error("probes version {0} is not known")]
    Version(u8),
    /// They break an invariant of the format.
    #[error("probes of a content of {size} bytes are not well-formed")]
    Malformed {
        /// The size they claim, in bytes.
        size: u64,
    },
}

/// The samples of one content.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawProbes", into = "RawProbes")]
pub struct Probes {
    size: u64,
    /// Up to where secret offsets were spread: the size when they were last added.
    spread: u64,
    samples: Vec<Sample>,
}

/// Probes as serialized.
#[derive(Serialize, Deserialize)]
struct RawProbes(u8, u64, u64, Vec<Sample>);

impl From<Probes> for RawProbes {
    fn from(probes: Probes) -> Self {
        Self(PROBES_VERSION, probes.size, probes.spread, probes.samples)
    }
}

impl TryFrom<RawProbes> for Probes {
    type Error = ProbesError;

    fn try_from(RawProbes(version, size, spread, samples): RawProbes) -> Result<Self, ProbesError> {
        if version != PROBES_VERSION {
            return Err(ProbesError::Version(version));
        }
        let sound = size >= PROBED_FROM
            && (PROBED_FROM..=size).contains(&spread)
            && samples.len() <= PROBES_CAP
            && samples.is_sorted_by(|a, b| a.offset < b.offset)
            && samples.first().is_some_and(|first| first.offset == 0)
            && samples.last().is_some_and(|last| last.offset == size - PROBE_BYTES);
        if sound { Ok(Self { size, spread, samples }) } else { Err(ProbesError::Malformed { size }) }
    }
}

impl Probes {
    /// Samples `content` as planned. None if it is shorter than planned.
    ///
    /// # Errors
    /// The content's own.
    pub fn take(content: &dyn ReadAt, plan: &ProbePlan) -> io::Result<Option<Self>> {
        let mut samples = Vec::with_capacity(plan.offsets.len());
        for offset in &plan.offsets {
            match Sample::read(content, *offset)? {
                Some(sample) => samples.push(sample),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { size: plan.size, spread: plan.spread, samples }))
    }

    /// Length in bytes of the content they were taken of: the old end.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The probed ranges, ascending by offset.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> {
        self.samples.iter().map(|sample| Span { offset: sample.offset, len: PROBE_BYTES })
    }

    /// True if all ranges still read as they did: `content` is as long or longer, and was at most appended to, as far as can be told.
    ///
    /// # Errors
    /// The content's own.
    pub fn check(&self, content: &dyn ReadAt) -> io::Result<bool> {
        for sample in &self.samples {
            if Sample::read(content, sample.offset)?.as_ref() != Some(sample) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The probes of the content after it grew to `new_size` bytes and [`Probes::check`] held: head and secret offsets stay as they
    /// are (they are not read again), the end moves, and for each doubling since the last time there are
    /// [`PROBES_PER_DOUBLING`] more in what is new. None if the content is shorter than `new_size`, or that is shorter than it was.
    ///
    /// # Errors
    /// The content's own.
    pub fn extended(
        &self,
        content: &dyn ReadAt,
        new_size: u64,
        secret: &[u8; 32],
        identity: &[u8],
    ) -> io::Result<Option<Self>> {
        if new_size < self.size {
            return Ok(None);
        }
        let (low, mut spread) = (self.spread, self.spread);
        let mut offsets = vec![new_size - PROBE_BYTES];
        if new_size / 2 >= low {
            let more = PROBES_PER_DOUBLING * (new_size / low).ilog2();
            offsets.extend((0..more).map(|index| secret_offset(low, new_size, index, secret, identity)));
            spread = new_size;
        }
        let kept = self.samples.iter().filter(|sample| sample.offset != self.size - PROBE_BYTES);
        let mut samples: Vec<_> = kept.copied().collect();
        for offset in offsets {
            match Sample::read(content, offset)? {
                Some(sample) => samples.push(sample),
                None => return Ok(None),
            }
        }
        samples.sort_unstable_by_key(|sample| sample.offset);
        samples.dedup_by_key(|sample| sample.offset);
        Ok(Some(Self { size: new_size, spread, samples }))
    }
}

/// Takes [`Probes`] from a content that is being read anyway.
#[derive(Clone, Debug)]
pub struct ProbeCollector {
    size: u64,
    spread: u64,
    /// Offset, hasher and how many bytes it has, for each planned range.
    open: Vec<(u64, blake3::Hasher, u64)>,
}

impl ProbeCollector {
    /// Will take what `plan` says.
    pub fn new(plan: &ProbePlan) -> Self {
        let open = plan.offsets.iter().map(|offset| (*offset, blake3::Hasher::new(), 0)).collect();
        Self { size: plan.size, spread: plan.spread, open }
    }

    /// Looks at `bytes`, which are those of the content from `offset` on. To be called in ascending order, without gaps.
    pub fn update(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        for (start, hasher, filled) in &mut self.open {
            let next = *start + *filled;
            let stop = end.min(*start + PROBE_BYTES);
            if offset <= next && next < stop {
                // Both lie within `bytes`, so they fit.
                let range = usize::try_from(next - offset).unwrap_or(0)..usize::try_from(stop - offset).unwrap_or(0);
                hasher.update(&bytes[range]);
                *filled += stop - next;
            }
        }
    }

    /// The probes. None if some planned range was not fed whole.
    pub fn finish(self) -> Option<Probes> {
        let whole = |(offset, hasher, filled): &(u64, blake3::Hasher, u64)| {
            (*filled == PROBE_BYTES).then(|| Sample::new(*offset, &hasher.finalize()))
        };
        let samples = self.open.iter().map(whole).collect::<Option<_>>()?;
        Some(Probes { size: self.size, spread: self.spread, samples })
    }
}

#[cfg(test)]
mod tests;
