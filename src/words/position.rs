//! Where a node stands: reigns, positions, and the ids of clusters, homes and nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::Digest;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

random_id!(
    /// Which cluster a node belongs to.
    ClusterId
);
random_id!(
    /// Which home is replicated; written into `<home>/.hotspare/home` when the home is first taken.
    HomeId
);
random_id!(
    /// Which reign: drawn at random when it begins.
    ReignId
);
random_id!(
    /// Which run of a daemon: drawn at random when the process starts, so that two processes with one identity are told apart.
    InstanceNonce
);

/// A node's name, unique in its cluster: 1 to 64 characters of `a-z A-Z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Why a text is no node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node name has 1 to 64 characters of a-z A-Z 0-9 . _ -, and {0:?} does not")]
pub struct NodeNameError(String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) { Ok(Self(text)) } else { Err(NodeNameError(text)) }
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `epoch.generation`: a point in the history of a home. Comparable only along one chain of reigns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Position {
    /// The epoch number of the reign.
    pub epoch: u64,
    /// The number of the generation; goes on counting across reigns of one chain.
    pub generation: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One primary's term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub struct Reign {
    /// Drawn at random; tells apart two reigns with one epoch number.
    pub id: ReignId,
    /// One more than the parent's.
    pub epoch: u64,
    /// The reign it forked from; `None` for a cluster's first.
    pub parent: Option<ReignId>,
    /// Where it forked.
    pub fork: Position,
}

/// Which history led to a position: BLAKE3 in `derive_key` mode, context [`CHAIN_CONTEXT`], over the parent's chain digest and the
/// encoded header of the generation. All zero before the first generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug, Default)]
pub struct ChainDigest(pub Digest);

/// The BLAKE3 key-derivation context of chain digests.
pub const CHAIN_CONTEXT: &str = "hotspare 2026 chain v1";

impl ChainDigest {
    /// The chain digest after a generation whose encoded header is `header`.
    pub fn extend(&self, header: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CHAIN_CONTEXT);
        hasher.update(&self.0.0);
        hasher.update(header);
        Self(hasher.finalize().into())
    }
}
