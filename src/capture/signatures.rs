//! Signatures of new contents: they wait in the spool, between the payloads, so that memory is bounded however much is captured.

use std::io::{self, Write as _};

use crate::spool::{Spool, SpoolReader};
use crate::thought::delta::read_full;
use crate::words::entry::Digest;

/// Where in the spool signatures lie.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Digest, u64, usize)>);

impl Kept {
    pub(super) fn keep(&mut self, spool: &mut Spool, content: Digest, signature: &[u8]) -> io::Result<()> {
        let offset = spool.end();
        spool.write_all(signature)?;
        self.0.push((content, offset, signature.len()));
        Ok(())
    }
}

/// The signatures of new contents, for the tree to keep.
#[derive(Debug)]
pub struct Signatures {
    spool: SpoolReader,
    kept: Kept,
}

impl Signatures {
    pub(super) fn new(spool: SpoolReader, kept: Kept) -> Self {
        Self { spool, kept }
    }

    /// Each content's digest with the signature deltas will be made against.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<(Digest, Vec<u8>)>> + '_ {
        self.kept.0.iter().map(|&(content, offset, length)| {
            let mut signature = vec![0; length];
            match read_full(&self.spool, &mut signature, offset)? {
                count if count == length => Ok((content, signature)),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }
}
