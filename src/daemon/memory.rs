//! What a node remembers between its runs, in its state directory: the cluster, the reigns it knows, how it ended.
//!
//! **Format, version 1:** `node.json`, one JSON object as [`Memory`]; `trust.json`, a list of [`Trusted`]; `acks.json`, of a primary, an object
//! of standbys' names and the newest position that each acked. Each is replaced as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bound::Bound;
use crate::fs::FsError;
use crate::fs::state::{read_capped, write_atomically};
use crate::net::identity::NodeId;
use crate::thought::filter::{Filter, Rules};
use crate::words::entry::Timestamp;
use crate::words::position::{ClusterId, HomeId, NodeName, Position, Reign, ReignId};

/// The longest file read.
const CAP: u64 = 1 << 20;
/// The format written.
const VERSION: u32 = 1;

/// What a node remembers of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    version: u32,
    /// The cluster; `None` until it belongs to one.
    pub cluster: Option<ClusterId>,
    /// The home.
    pub home: Option<HomeId>,
    /// The reigns it knows, highest last.
    pub reigns: Vec<Reign>,
    /// A primary: that it ended in order, and stood here. Taken away while it runs.
    pub ended_at: Option<Position>,
    /// Where the state directory belongs; `None` before the first start.
    #[serde(default)]
    pub bound: Option<Bound>,
    /// A standby: what its primary replicates, as that one last said.
    #[serde(default)]
    pub filter: Option<Rules>,
    /// Since when replication of this node is paused, if it is.
    #[serde(default)]
    pub paused_since: Option<Timestamp>,
}

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A later version of hotspare wrote it.
    #[error(
        "{} has format {version}, newer than {VERSION}, the newest that this version of hotspare reads: upgrade it",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// The file is not what was written.
    #[error("{} is damaged; move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// All that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Memory {
    /// Reads it from `state`; a node that never ran remembers nothing.
    pub fn load(state: &Path) -> Result<Self, MemoryError> {
        if let Some(Versioned { version }) = load(&path(state))?.filter(|found: &Versioned| found.version > VERSION) {
            return Err(MemoryError::TooNew { path: path(state), version });
        }
        Ok(load(&path(state))?.unwrap_or(Self {
            version: VERSION,
            cluster: None,
            home: None,
            reigns: Vec::new(),
            ended_at: None,
            bound: None,
            filter: None,
            paused_since: None,
        }))
    }

    /// Writes it, durably.
    pub fn save(&self, state: &Path) -> Result<(), MemoryError> {
        save(&path(state), self)
    }

    /// The highest reign known.
    pub fn reign(&self) -> Option<Reign> {
        self.reigns.last().copied()
    }

    /// What the primary that was last met replicates; `own` before one was.
    pub fn filter_of_primary(&self, own: &Filter) -> Filter {
        self.filter.clone().and_then(|rules| Filter::of(rules).ok()).unwrap_or_else(|| own.clone())
    }

    /// Takes note of a reign; false if it is not higher than what is known.
    pub fn learn(&mut self, reign: Reign) -> bool {
        if self.reign().is_some_and(|known| known.epoch >= reign.epoch) {
            return false;
        }
        self.reigns.push(reign);
        // The last few tell all that a peer can need.
        let surplus = self.reigns.len().saturating_sub(16);
        self.reigns.drain(..surplus);
        true
    }

    /// Begins a reign at `fork`.
    pub fn begin_reign(&mut self, id: ReignId, fork: Position) -> Reign {
        let parent = self.reign();
        let epoch = parent.map_or(1, |parent| parent.epoch + 1);
        let reign = Reign { id, epoch, parent: parent.map(|parent| parent.id), fork };
        self.learn(reign);
        reign
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("node.json")
}

/// One trusted peer, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// Its id, `hs1-...`.
    pub id: String,
    /// Its name.
    pub name: NodeName,
    /// The id that it replaces, until it is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// The peers trusted by command, beside those in the configuration.
pub fn load_trust(state: &Path) -> Result<Vec<Trusted>, MemoryError> {
    Ok(load(&state.join("trust.json"))?.unwrap_or_default())
}

/// Has the node of `state` trust `id` as `name`, from its next start on: instead of the ids it knew under that name, or `also`, beside
/// them. Tells which it trusts no longer.
pub fn trust_in(state: &Path, id: &str, name: &NodeName, also: bool) -> Result<Vec<String>, MemoryError> {
    let mut trusted = load_trust(state)?;
    trusted.retain(|known| known.id != id);
    let (replaced, mut kept): (Vec<_>, Vec<_>) = trusted.into_iter().partition(|known| !also && known.name == *name);
    kept.push(Trusted { id: id.to_owned(), name: name.clone(), replaces: None });
    save_trust(state, &kept)?;
    Ok(replaced.into_iter().map(|known| known.id).collect())
}

/// Trusts `next` beside `present`, which the same peer shows now, until [`retire_old_id`].
pub fn learn_next_id(state: &Path, present: &NodeId, next: &NodeId, name: &NodeName) -> Result<(), MemoryError> {
    let mut trusted = load_trust(state)?;
    // A rotation that was begun anew: what was announced before is never used.
    let present = present.to_string();
    trusted.retain(|known| known.replaces.as_ref() != Some(&present));
    trusted.push(Trusted { id: next.to_string(), name: name.clone(), replaces: Some(present) });
    save_trust(state, &trusted)
}

/// Takes back the trust in the id that `new` replaces, now that it was met; that id, if there is one.
pub fn retire_old_id(state: &Path, new: &NodeId) -> Result<Option<String>, MemoryError> {
    let mut trusted = load_trust(state)?;
    let new = new.to_string();
    let Some(old) = trusted.iter_mut().find(|known| known.id == new).and_then(|known| known.replaces.take()) else {
        return Ok(None);
    };
    trusted.retain(|known| known.id != old);
    save_trust(state, &trusted)?;
    Ok(Some(old))
}

/// Takes the trust in `id` back; false if there was none.
pub fn untrust_in(state: &Path, id: &str) -> Result<bool, MemoryError> {
    let mut trusted = load_trust(state)?;
    let before = trusted.len();
    trusted.retain(|known| known.id != id);
    save_trust(state, &trusted)?;
    Ok(trusted.len() < before)
}

/// Writes them, durably.
fn save_trust(state: &Path, trusted: &[Trusted]) -> Result<(), MemoryError> {
    save(&state.join("trust.json"), &trusted)
}

/// The newest position that each standby is known to have acked.
pub fn load_acks(state: &Path) -> Result<BTreeMap<NodeName, Position>, MemoryError> {
    Ok(load(&state.join("acks.json"))?.unwrap_or_default())
}

/// Writes them, durably.
pub fn save_acks(state: &Path, acks: &BTreeMap<NodeName, Position>) -> Result<(), MemoryError> {
    save(&state.join("acks.json"), acks)
}

fn load<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, MemoryError> {
    match read_capped(path, CAP) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| MemoryError::Damaged { path: path.to_owned(), source }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), MemoryError> {
    let bytes =
        serde_json::to_vec_pretty(value).map_err(|source| MemoryError::Damaged { path: path.to_owned(), source })?;
    Ok(write_atomically(path, &bytes, 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_remembered_and_a_damaged_file_is_named() {
        let state = tempfile::tempdir().unwrap();
        let mut memory = Memory::load(state.path()).unwrap();
        let first = memory.begin_reign(ReignId([1; 16]), Position::default());
        assert_eq!(first.epoch, 1);
        memory.save(state.path()).unwrap();
        let mut again = Memory::load(state.path()).unwrap();
        assert_eq!(again, memory);
        let second = again.begin_reign(ReignId([2; 16]), Position { epoch: 1, generation: 9 });
        assert_eq!((second.epoch, second.parent), (2, Some(ReignId([1; 16]))));
        assert!(!again.learn(first), "a lower reign is not learnt");
        write_atomically(&path(state.path()), br#"{"version": 2, "more": 1}"#, 0o600).unwrap();
        assert!(matches!(Memory::load(state.path()), Err(MemoryError::TooNew { version: 2, .. })));
        write_atomically(&path(state.path()), b"{", 0o600).unwrap();
        assert!(Memory::load(state.path()).unwrap_err().to_string().contains("node.json"));
    }
}
