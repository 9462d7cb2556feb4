//! Signatures: one weak and one strong digest for every block of a content, against which a newer content is diffed.
//!
//! **Format** (librsync's, as `fast_rsync` writes it; integers big-endian): magic `0x72730136` (MD4) `u32`; block length `u32`; strong length
//! `u32`; then for each block, the last of which may be short: rolling digest `u32`, the first strong-length bytes of its MD4.
//! The header stands once, so signatures of windows that are multiples of the block concatenate to that of the whole.
//!
//! **Invariant:** a [`Signature`] was made or validated here: `fast_rsync` panics or hangs on a block length of 0.

use std::fmt;
use std::io;

use thiserror::Error;

use super::{ReadAt, read_full};

/// The most blocks a signature may have: at most 20 bytes each on the wire, and (estimated, not
/// measured) about 100 in the index of a diff, so some 30 MiB.
pub const BLOCKS_CAP: u64 = 1 << 18;
/// The smallest block a peer may use, in bytes.
pub const BLOCK_MIN: u32 = 512;
/// The largest block, in bytes; with [`BLOCKS_CAP`] it bounds contents with signatures to 256 GiB.
pub const BLOCK_MAX: u32 = 1 << 20;
/// Strong digests are at least this long, in bytes.
pub const STRONG_MIN: u32 = 8;
/// The length of an MD4 digest, in bytes.
pub const STRONG_MAX: u32 = 16;
/// Magic, block length, strong length.
const HEADER_BYTES: usize = 12;
/// The magic of MD4 signatures.
const MAGIC: u32 = 0x7273_0136;
/// The length of a rolling digest, in bytes.
const WEAK_BYTES: u64 = 4;
/// Contents larger than this have full strong digests: the chance of a false match grows with the number of blocks.
const LARGE_BYTES: u64 = 1 << 30;

/// How a signature is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureOptions {
    block_bytes: u32,
    strong_bytes: u32,
}

impl SignatureOptions {
    /// Blocks of `block_bytes` ([`BLOCK_MIN`] to [`BLOCK_MAX`]) with strong digests of `strong_bytes` (8 to 16).
    ///
    /// # Errors
    /// [`SignatureError::Options`] if one is outside its range.
    pub fn new(block_bytes: u32, strong_bytes: u32) -> Result<Self, SignatureError> {
        if (BLOCK_MIN..=BLOCK_MAX).contains(&block_bytes) && (STRONG_MIN..=STRONG_MAX).contains(&strong_bytes) {
            Ok(Self { block_bytes, strong_bytes })
        } else {
            Err(SignatureError::Options { block_bytes, strong_bytes })
        }
    }

    /// What suits a content of `size` bytes: blocks near its square root, a power of two between 1 and 64 KiB, larger only beyond
    /// 16 GiB to stay within [`BLOCKS_CAP`]; full strong digests beyond 1 GiB. None beyond 256 GiB: no signature, send it whole.
    pub fn for_size(size: u64) -> Option<Self> {
        Self::within(size, BLOCKS_CAP)
    }

    /// The same with `blocks` at most ([`BLOCKS_CAP`] or fewer): of larger contents the blocks are larger.
    pub fn within(size: u64, blocks: u64) -> Option<Self> {
        let root = u32::try_from(size.isqrt()).unwrap_or(u32::MAX);
        let mut block_bytes = root.clamp(1024, 64 * 1024).next_power_of_two();
        while size.div_ceil(block_bytes.into()) > blocks {
            block_bytes = block_bytes.checked_mul(2).filter(|block| *block <= BLOCK_MAX)?;
        }
        Some(Self { block_bytes, strong_bytes: if size > LARGE_BYTES { STRONG_MAX } else { STRONG_MIN } })
    }

    /// Block length in bytes.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How many bytes of each strong digest are kept.
    pub fn strong_bytes(&self) -> u32 {
        self.strong_bytes
    }

    fn foreign(self) -> fast_rsync::SignatureOptions {
        fast_rsync::SignatureOptions { block_size: self.block_bytes, crypto_hash_size: self.strong_bytes }
    }

    fn entry_bytes(self) -> u64 {
        WEAK_BYTES + u64::from(self.strong_bytes)
    }
}

/// Why there is no signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SignatureError {
    /// Outside the limits, in options or in a received header.
    #[error("blocks of {block_bytes} bytes with digests of {strong_bytes} are outside the limits")]
    Options {
        /// Block length in bytes.
        block_bytes: u32,
        /// Strong digest length in bytes.
        strong_bytes: u32,
    },
    /// Not an MD4 signature, or not even a header.
    #[error("not a signature")]
    Magic,
    /// The bytes are not those of a signature of such a content.
    #[error("a signature of {content_size} bytes of content has {found} bytes")]
    Length {
        /// Length of the content, in bytes.
        content_size: u64,
        /// Length of the signature, in bytes.
        found: usize,
    },
    /// More blocks than [`BLOCKS_CAP`].
    #[error("the signature would have more than {BLOCKS_CAP} blocks")]
    TooManyBlocks,
}

/// The signature of one content, valid by construction.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    inner: fast_rsync::Signature,
    options: SignatureOptions,
    content_size: u64,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature")
            .field("content_size", &self.content_size)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Signature {
    /// Of the first `size` bytes of a content, if it has as many; read in pieces of 1 MiB.
    ///
    /// # Errors
    /// The content's own.
    pub fn of(content: &dyn ReadAt, size: u64, options: SignatureOptions) -> io::Result<Option<Self>> {
        let mut builder = SignatureBuilder::new(options);
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
            if read_full(content, &mut buffer[..wanted], at)? < wanted {
                return Ok(None);
            }
            builder.update(&buffer[..wanted]);
            at += wanted as u64;
        }
        Ok(builder.finish().ok())
    }

    /// Takes a peer's or a disk's signature of a content known to have `content_size` bytes.
    ///
    /// # Errors
    /// If it is anything but an MD4 signature within the limits and of exactly the length for such a content.
    pub fn parse(bytes: Vec<u8>, content_size: u64) -> Result<Self, SignatureError> {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let (Some(MAGIC), Some(block), Some(strong)) = (word(0), word(4), word(8)) else {
            return Err(SignatureError::Magic);
        };
        let options = SignatureOptions::new(block, strong)?;
        let blocks = content_size.div_ceil(block.into());
        if blocks > BLOCKS_CAP {
            return Err(SignatureError::TooManyBlocks);
        }
        if bytes.len() as u64 != HEADER_BYTES as u64 + blocks * options.entry_bytes() {
            return Err(SignatureError::Length { content_size, found: bytes.len() });
        }
        let inner = fast_rsync::Signature::deserialize(bytes).map_err(|_| SignatureError::Magic)?;
        Ok(Self { inner, options, content_size })
    }

    /// The bytes, as [`Signature::parse`] takes them.
    pub fn as_bytes(&self) -> &[u8] {
        self.inner.serialized()
    }

    /// The bytes, as [`Signature::parse`] takes them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.inner.into_serialized()
    }

    /// Length in bytes of the content it is of.
    pub fn content_size(&self) -> u64 {
        self.content_size
    }

    /// How it was made.
    pub fn options(&self) -> SignatureOptions {
        self.options
    }

    /// The digests of block `index`, rolling and strong together; None behind the last.
    pub(super) fn block(&self, index: u64) -> Option<&[u8]> {
        let entry = self.options.entry_bytes();
        let start = usize::try_from(index.checked_mul(entry)?).ok()?.checked_add(HEADER_BYTES)?;
        self.as_bytes().get(start..start.checked_add(usize::try_from(entry).ok()?)?)
    }

    pub(super) fn index(&self) -> fast_rsync::IndexedSignature<'_> {
        self.inner.index()
    }
}

/// Makes a [`Signature`] of a content fed from its start to its end, in pieces of any size.
#[derive(Debug)]
pub struct SignatureBuilder {
    options: SignatureOptions,
    bytes: Vec<u8>,
    /// Less than one block, between calls.
    pending: Vec<u8>,
    content_size: u64,
}

impl SignatureBuilder {
    /// Starts at the beginning of a content.
    pub fn new(options: SignatureOptions) -> Self {
        let bytes = fast_rsync::Signature::calculate(&[], options.foreign()).into_serialized();
        Self { options, bytes, pending: Vec::new(), content_size: 0 }
    }

    /// Feeds the next bytes. Memory is that of the signature so far (at most [`BLOCKS_CAP`] blocks) and one block.
    pub fn update(&mut self, mut bytes: &[u8]) -> &mut Self {
        self.content_size = self.content_size.saturating_add(bytes.len() as u64);
        if self.blocks() > BLOCKS_CAP {
            return self;
        }
        let block = self.options.block_bytes as usize;
        if !self.pending.is_empty() {
            let (fill, rest) = bytes.split_at(bytes.len().min(block - self.pending.len()));
            self.pending.extend_from_slice(fill);
            bytes = rest;
            if self.pending.len() < block {
                return self;
            }
            let pending = std::mem::take(&mut self.pending);
            self.append(&pending);
        }
        let (whole, rest) = bytes.split_at(bytes.len() / block * block);
        self.append(whole);
        self.pending.extend_from_slice(rest);
        self
    }

    /// The signature of all that was fed.
    ///
    /// # Errors
    /// [`SignatureError::TooManyBlocks`] if the content was larger than the options allow for.
    pub fn finish(mut self) -> Result<Signature, SignatureError> {
        if self.blocks() > BLOCKS_CAP {
            return Err(SignatureError::TooManyBlocks);
        }
        let pending = std::mem::take(&mut self.pending);
        self.append(&pending);
        Signature::parse(self.bytes, self.content_size)
    }

    fn blocks(&self) -> u64 {
        self.content_size.div_ceil(self.options.block_bytes.into())
    }

    fn append(&mut self, blocks: &[u8]) {
        if !blocks.is_empty() {
            let signature = fast_rsync::Signature::calculate(blocks, self.options.foreign());
            self.bytes.extend_from_slice(&signature.serialized()[HEADER_BYTES..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(magic: u32, block: u32, strong: u32) -> Vec<u8> {
        [magic, block, strong].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn blocks_follow_the_size_and_never_exceed_their_number() {
        let block = |size| SignatureOptions::for_size(size).map(|options| options.block_bytes());
        let table = [
            (0, Some(1024)),
            (1 << 20, Some(1024)),
            (1 << 26, Some(8 * 1024)),
            ((1 << 26) + 1_000_000, Some(16 * 1024)),
            (1 << 32, Some(64 * 1024)),
            (1 << 34, Some(64 * 1024)),
            ((1 << 34) + 1, Some(128 * 1024)),
            (1 << 38, Some(1024 * 1024)),
            ((1 << 38) + 1, None),
            (u64::MAX, None),
        ];
        for (size, expected) in table {
            assert_eq!(block(size), expected, "{size}");
        }
        assert_eq!(SignatureOptions::for_size(1 << 30).unwrap().strong_bytes(), 8);
        assert_eq!(SignatureOptions::for_size((1 << 30) + 1).unwrap().strong_bytes(), 16);
    }

    #[test]
    fn a_peers_signature_outside_the_limits_is_refused() {
        let parse = |bytes, size| Signature::parse(bytes, size).map(|_| ());
        let options = |block_bytes, strong_bytes| Err(SignatureError::Options { block_bytes, strong_bytes });
        assert_eq!(parse(header(MAGIC, 512, 8), 0), Ok(()));
        assert_eq!(parse(header(MAGIC + 1, 512, 8), 0), Err(SignatureError::Magic));
        assert_eq!(parse(header(MAGIC, 512, 8)[..11].to_vec(), 0), Err(SignatureError::Magic));
        for (block, strong) in [(0, 8), (511, 8), (BLOCK_MAX + 1, 8), (512, 0), (512, 7), (512, 17), (512, u32::MAX)] {
            assert_eq!(parse(header(MAGIC, block, strong), 0), options(block, strong));
        }
        assert_eq!(parse(header(MAGIC, 512, 8), 1), Err(SignatureError::Length { content_size: 1, found: 12 }));
        let one = [header(MAGIC, 512, 8), vec![0; 12]].concat();
        assert_eq!(parse(one.clone(), 512), Ok(()));
        assert_eq!(parse(one.clone(), 513), Err(SignatureError::Length { content_size: 513, found: 24 }));
        assert_eq!(parse(one, 0), Err(SignatureError::Length { content_size: 0, found: 24 }));
        assert_eq!(parse(header(MAGIC, 512, 8), u64::MAX), Err(SignatureError::TooManyBlocks));
    }

    #[test]
    fn a_content_too_large_for_its_options_yields_no_signature_and_costs_no_memory() {
        let mut builder = SignatureBuilder::new(SignatureOptions::new(512, 8).unwrap());
        let piece = vec![0; 1 << 22];
        for _ in 0..=32 {
            builder.update(&piece);
        }
        assert!(builder.bytes.len() as u64 <= 12 * (BLOCKS_CAP + 1));
        assert_eq!(builder.finish(), Err(SignatureError::TooManyBlocks));
    }

    proptest! {
        #[test]
        fn pieces_have_the_signature_of_the_whole(
            content in prop::collection::vec(any::<u8>(), 0..9000),
            pieces in prop::collection::vec(0..2000_usize, 0..9),
            block in 512..1500_u32,
            strong in 8..=16_u32,
        ) {
            let options = SignatureOptions::new(block, strong).unwrap();
            let mut builder = SignatureBuilder::new(options);
            let mut rest = &content[..];
            for piece in pieces {
                let (piece, after) = rest.split_at(piece.min(rest.len()));
                builder.update(piece);
                rest = after;
            }
            builder.update(rest);
            let signature = builder.finish().unwrap();
            let whole = fast_rsync::Signature::calculate(&content, options.foreign());
            prop_assert_eq!(signature.as_bytes(), whole.serialized());
            prop_assert_eq!(Signature::parse(signature.as_bytes().to_vec(), content.len() as u64).unwrap(), signature);
        }

        #[test]
        fn parsing_arbitrary_bytes_never_panics(
            block in any::<u32>(), strong in 0..20_u32, rest in prop::collection::vec(any::<u8>(), 0..99), size in any::<u64>(),
        ) {
            // Whatever is let through can be indexed and diffed.
            if let Ok(signature) = Signature::parse([header(MAGIC, block, strong), rest.clone()].concat(), size % 4096) {
                fast_rsync::diff(&signature.index(), &[0; 4096], Vec::new()).unwrap();
            }
            prop_assert!(Signature::parse(rest, size).is_err());
        }
    }
}
