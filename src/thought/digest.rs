//! The digest of a content that is read in pieces, and that can be carried on after an append.
//!
//! BLAKE3 is a binary tree over chunks of 1 KiB. What lies left of the last bytes consists of complete subtrees that no append can
//! change; their chaining values are the [`Frontier`]. With it the digest of "old content + tail" costs the tail and
//! at most one unit of [`UNIT_BYTES`] of the old content.
//!
//! **Frontier, version 1.** For a content of `size` bytes, `units = (size - 1) / 65536` (0 when empty) complete units are
//! left of the last 1 to 65536 bytes. There is one chaining value for each set bit of `units`, the highest bit (the leftmost, largest subtree)
//! first. Serialized by serde as (version `u8`, size `u64`, list of 32-byte values); **Invariant:** the count is the number of set
//! bits of `units`; the size is below 2^63, so there are at most 47.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::words::entry::Digest;

/// The granularity of a [`Frontier`], in bytes: the most of the old content that is read again after an append.
pub const UNIT_BYTES: u64 = 65_536;
/// The same, for buffers.
const UNIT: usize = 65_536;
/// The version this build writes and reads.
const FRONTIER_VERSION: u8 = 1;

/// What is known of a content that was read to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// BLAKE3 of all bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// Where to carry on when more is appended.
    pub frontier: Frontier,
}

/// The state from which the digest of a grown content is computed without reading the old part again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawFrontier", into = "RawFrontier")]
pub struct Frontier {
    size: u64,
    subtrees: Vec<ChainingValue>,
}

impl Default for Frontier {
    /// The frontier of the empty content.
    fn default() -> Self {
        Self { size: 0, subtrees: Vec::new() }
    }
}

impl Frontier {
    /// Length in bytes of the content it was made from.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The offset, in bytes, of the first byte to be fed after [`ContentHasher::resume`]: a multiple of [`UNIT_BYTES`], at most
    /// [`UNIT_BYTES`] before [`Frontier::size`].
    pub fn resume_offset(&self) -> u64 {
        complete_units(self.size) * UNIT_BYTES
    }
}

/// Why stored or received bytes are no frontier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrontierError {
    /// Written by a later build.
    #[error("frontier version {0} is not known")]
    Version(u8),
    /// Larger than any file: 2^63 bytes and more.
    #[error("a frontier of {0} bytes is of no file")]
    Size(u64),
    /// Subtrees and size contradict each other.
    #[error("a frontier of {size} bytes has {found} subtrees")]
    Count {
        /// The size it claims, in bytes.
        size: u64,
        /// How many subtrees it brings.
        found: usize,
    },
}

/// A frontier as serialized.
#[derive(Serialize, Deserialize)]
struct RawFrontier(u8, u64, Vec<ChainingValue>);

impl From<Frontier> for RawFrontier {
    fn from(frontier: Frontier) -> Self {
        Self(FRONTIER_VERSION, frontier.size, frontier.subtrees)
    }
}

impl TryFrom<RawFrontier> for Frontier {
    type Error = FrontierError;

    fn try_from(RawFrontier(version, size, subtrees): RawFrontier) -> Result<Self, FrontierError> {
        if version != FRONTIER_VERSION {
            return Err(FrontierError::Version(version));
        }
        if i64::try_from(size).is_err() {
            return Err(FrontierError::Size(size));
        }
        if subtrees.len() != complete_units(size).count_ones() as usize {
            return Err(FrontierError::Count { size, found: subtrees.len() });
        }
        Ok(Self { size, subtrees })
    }
}

/// How many complete units are left of the last 1 to 65536 bytes of a content.
fn complete_units(size: u64) -> u64 {
    size.saturating_sub(1) / UNIT_BYTES
}

/// BLAKE3 of a content that is fed from its start to its end, in pieces of any size (fastest from 256 KiB on).
///
/// Uses at most [`UNIT_BYTES`] of buffer. **Invariant:** `tail` is empty only while nothing was fed since the start or the resume.
#[derive(Clone, Debug, Default)]
pub struct ContentHasher {
    /// One for each set bit of `units`, leftmost first.
    subtrees: Vec<ChainingValue>,
    /// Complete units merged into `subtrees`.
    units: u64,
    /// The last bytes fed, at most one unit.
    tail: Vec<u8>,
}

impl ContentHasher {
    /// Starts at the beginning of a content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries on where `frontier` ends: the next byte fed must be that at [`Frontier::resume_offset`], and all bytes
    /// up to [`Frontier::size`] must be fed again before those that are new.
    pub fn resume(frontier: &Frontier) -> Self {
        Self { subtrees: frontier.subtrees.clone(), units: complete_units(frontier.size), tail: Vec::new() }
    }

    /// The offset of the next byte to be fed, which is the length of the content so far.
    pub fn position(&self) -> u64 {
        self.units * UNIT_BYTES + self.tail.len() as u64
    }

    /// Feeds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) -> &mut Self {
        if !self.tail.is_empty() {
            let (fill, rest) = bytes.split_at(bytes.len().min(UNIT - self.tail.len()));
            self.tail.extend_from_slice(fill);
            bytes = rest;
            if bytes.is_empty() {
                return self;
            }
            let tail = std::mem::take(&mut self.tail);
            self.push(&tail, 1);
            self.tail = tail;
            self.tail.clear();
        }
        // The last 1 to UNIT bytes stay back: only when more follows is it known that what is left of them is no root.
        while bytes.len() > UNIT {
            let whole = (bytes.len() - 1) / UNIT;
            let aligned = if self.units == 0 { usize::BITS - 1 } else { self.units.trailing_zeros() };
            let units = 1_usize << aligned.min(whole.ilog2());
            let (run, rest) = bytes.split_at(units * UNIT);
            self.push(run, units as u64);
            bytes = rest;
        }
        self.tail.extend_from_slice(bytes);
        self
    }

    /// Digest, size and frontier of all that was fed. Feeding may go on afterwards.
    ///
    /// After [`ContentHasher::resume`] the old bytes from the resume offset on must have been fed: compare the size. If nothing at all was
    /// fed to a resumed hasher there is no digest; it is then all zeros, which matches no content, and the frontier that of nothing.
    pub fn finish(&self) -> Content {
        let size = self.position();
        let digest = match self.subtrees.split_first() {
            None => blake3::hash(&self.tail),
            Some(_) if self.tail.is_empty() => {
                return Content { digest: Digest::default(), size, frontier: Frontier::default() };
            }
            Some((leftmost, others)) => {
                let join = |right, left| merge_subtrees_non_root(left, &right, Mode::Hash);
                let right = others.iter().rev().fold(self.subtree(&self.tail), join);
                merge_subtrees_root(leftmost, &right, Mode::Hash)
            }
        };
        let frontier = Frontier { size, subtrees: self.subtrees.clone() };
        Content { digest: digest.into(), size, frontier }
    }

    /// The chaining value of `bytes`, which begin right after the complete units.
    fn subtree(&self, bytes: &[u8]) -> ChainingValue {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(self.units * UNIT_BYTES).update(bytes);
        hasher.finalize_non_root()
    }

    /// Adds `run`, a complete aligned subtree of `units` (a power of two) units, merging equals as in binary addition.
    fn push(&mut self, run: &[u8], units: u64) {
        let mut value = self.subtree(run);
        let mut carry = units;
        while self.units & carry != 0 {
            if let Some(left) = self.subtrees.pop() {
                value = merge_subtrees_non_root(&left, &value, Mode::Hash);
            }
            carry <<= 1;
        }
        self.subtrees.push(value);
        self.units += units;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that differ from unit to unit, the same in every run.
    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn fed(content: &[u8], piece: usize) -> Content {
        let mut hasher = ContentHasher::new();
        for piece in content.chunks(piece) {
            hasher.update(piece);
        }
        hasher.finish()
    }

    fn stored(frontier: &Frontier) -> Frontier {
        let bytes = postcard::to_allocvec(frontier).unwrap();
        postcard::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn sizes_around_the_boundaries_of_units_and_chunks_have_the_digest_of_the_whole() {
        let all = bytes(9 * UNIT + 1);
        let near = |size: usize| [size - 1, size, size + 1];
        let units = (1..=9).flat_map(|units| near(units * UNIT));
        for size in [0, 1, 1023, 1024, 1025, 2048].into_iter().chain(units) {
            let content = &all[..size.min(all.len())];
            for piece in [1000, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, 16 * UNIT] {
                let found = fed(content, piece);
                assert_eq!(found.digest, Digest::of(content), "{size} bytes in pieces of {piece}");
                assert_eq!(found.size, content.len() as u64);
                assert_eq!(stored(&found.frontier), found.frontier);
            }
        }
    }

    #[test]
    fn a_resumed_hasher_needs_no_more_than_one_old_unit() {
        let all = bytes(5 * UNIT);
        for size in [0, 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 3 * UNIT + 5, 4 * UNIT] {
            let frontier = fed(&all[..size], all.len()).frontier;
            assert_eq!(frontier.size(), size as u64);
            let offset = usize::try_from(frontier.resume_offset()).unwrap();
            assert!(offset <= size && size - offset <= UNIT);
            let mut hasher = ContentHasher::resume(&frontier);
            assert_eq!(hasher.position(), offset as u64);
            assert_eq!(hasher.update(&all[offset..]).finish().digest, Digest::of(&all), "after {size}");
        }
    }

    #[test]
    fn a_resumed_hasher_that_was_fed_nothing_claims_no_digest() {
        let frontier = fed(&bytes(3 * UNIT), UNIT).frontier;
        let content = ContentHasher::resume(&frontier).finish();
        assert_eq!(content.digest, Digest::default());
        assert_eq!(stored(&content.frontier), Frontier::default());
    }

    #[test]
    fn a_frontier_of_another_shape_or_version_is_refused() {
        let good = RawFrontier::from(fed(&bytes(3 * UNIT + 1), UNIT).frontier);
        let RawFrontier(version, size, subtrees) = good;
        let refused = |raw: RawFrontier| Frontier::try_from(raw).unwrap_err();
        assert_eq!(refused(RawFrontier(2, size, subtrees.clone())), FrontierError::Version(2));
        assert_eq!(
            refused(RawFrontier(version, size - 1, subtrees)),
            FrontierError::Count { size: size - 1, found: 2 }
        );
        assert_eq!(refused(RawFrontier(version, 1 << 62, vec![])), FrontierError::Count { size: 1 << 62, found: 0 });
        assert_eq!(refused(RawFrontier(version, u64::MAX, vec![[0; 32]; 48])), FrontierError::Size(u64::MAX));
    }

    #[test]
    fn the_frontier_format_is_pinned() {
        let frontier = fed(&bytes(3 * UNIT + 1), UNIT).frontier;
        let bytes = postcard::to_allocvec(&frontier).unwrap();
        assert_eq!(bytes[..5], [1, 0x81, 0x80, 0x0c, 2]);
        assert_eq!(Digest::of(&bytes).to_string(), "b3c7c56151f734b6001c73f698a91ef6c1a83f6123fb944ac8480bf072c2f5f3");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_series_of_appends_has_the_digest_of_the_whole(
            appends in prop::collection::vec((0..5 * UNIT, 1..3 * UNIT), 1..8),
        ) {
            let all = bytes(appends.iter().map(|(len, _)| len).sum());
            let mut frontier = Frontier::default();
            let mut end = 0;
            for (len, piece) in appends {
                end += len;
                let mut hasher = ContentHasher::resume(&stored(&frontier));
                let start = usize::try_from(hasher.position()).unwrap();
                for piece in all[start..end].chunks(piece) {
                    hasher.update(piece);
                }
                let content = hasher.finish();
                prop_assert_eq!(content.digest, Digest::of(&all[..end]));
                frontier = content.frontier;
            }
        }

        #[test]
        fn decoding_a_frontier_never_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            size in any::<u64>(),
            shaped in any::<bool>(),
        ) {
            if shaped {
                let subtrees = vec![[7; 32]; complete_units(size).count_ones() as usize];
                bytes = postcard::to_allocvec(&RawFrontier(FRONTIER_VERSION, size, subtrees)).unwrap();
            }
            if let Ok(frontier) = postcard::from_bytes::<Frontier>(&bytes) {
                prop_assert!(frontier.resume_offset() <= frontier.size());
                ContentHasher::resume(&frontier).update(&[0; 3 * UNIT]).finish();
            }
        }
    }
}
