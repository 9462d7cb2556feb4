//! Answers to the questions of a primary, from the replica's tree.

use std::path::Path;

use crate::fs::Root;
use crate::reveal::{Copied, Copying, Replica, ReplicaError, marker};
use crate::thought::delta::ReadAt;
use crate::thought::delta::signature::{Signature, SignatureOptions};
use crate::thought::store::ReadStore;
use crate::thought::tree::{Tree, TreeError};
use crate::thought::wire::message::{
    Begun, CONTROL_CAP, Child, LISTING_CAP, Lack, List, Listing, SIGNED_BLOCKS, Signed,
};
use crate::words::entry::Digest;
use crate::words::position::HomeId;

/// Which of `contents` are not here.
pub(super) fn lack(replica: &Replica, contents: &[Digest]) -> Result<Lack, ReplicaError> {
    let mut bits = vec![0; contents.len().div_ceil(8)];
    let mut begun = Vec::new();
    for (index, content) in (0..).zip(contents) {
        if replica.has(*content)? {
            continue;
        }
        bits[index as usize / 8] |= 1 << (index % 8);
        if let Some(bytes) = replica.begun(*content)? {
            begun.push(Begun { index, bytes });
        }
    }
    Ok(Lack { bits, begun, holds: replica.holds() })
}

/// Makes copies; of what fails the generation makes its own, and says why it cannot.
pub(super) fn copied(copyings: Vec<Copying>) -> Vec<Copied> {
    let make = |copying: Copying| match copying.make() {
        Ok(copied) => copied,
        Err(error) => {
            tracing::warn!(
                error = crate::daemon::explain(&error),
                "a large content of the replica is not copied ahead"
            );
            None
        }
    };
    copyings.into_iter().filter_map(make).collect()
}

/// The signature of a content that a newer one is to be diffed against; empty if it cannot be had.
pub(super) fn signed(base: Option<Box<dyn ReadAt + Send>>, size: u64) -> Signed {
    let options = SignatureOptions::within(size, SIGNED_BLOCKS);
    let signature = match (base, options) {
        (Some(base), Some(options)) => Signature::of(&*base, size, options).unwrap_or_else(|error| {
            tracing::debug!(%error, "the base of a delta cannot be read");
            None
        }),
        _ => None,
    };
    Signed { signature: signature.map(Signature::into_bytes).unwrap_or_default() }
}

pub(super) fn marked(home: &Path) -> Result<Option<HomeId>, ReplicaError> {
    match Root::open(home) {
        Ok(root) => marker::read(&root),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn listing<S: ReadStore>(tree: &Tree<S>, list: &List) -> Result<Listing, TreeError> {
    let Some(row) = tree.row(&list.path)? else {
        return Ok(Listing { directory: None, children: Vec::new(), more: false });
    };
    let Some(facts) = &row.directory else {
        return Ok(Listing { directory: None, children: Vec::new(), more: false });
    };
    let mut children = Vec::new();
    let mut bytes = 0;
    let page = tree.children(facts.id, list.after.as_ref(), LISTING_CAP)?;
    let full = page.len() == LISTING_CAP;
    let mut more = full;
    for (name, row) in page {
        // A listing fits into one message, whatever xattrs its entries have.
        bytes += 256 + row.entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if bytes > CONTROL_CAP / 2 && !children.is_empty() {
            more = true;
            break;
        }
        children.push(Child { name, digest: row.digest(), entry: row.entry });
    }
    Ok(Listing { directory: Some((row.entry.clone(), row.digest())), children, more })
}
