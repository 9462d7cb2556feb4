//! Changing a node's key while it runs, with both accepted for a while.
//!
//! A rotation makes the next key and goes on with the present one. Every heartbeat tells the next id over a link that the present key
//! proved; a peer writes it down, trusts both, and says so in its own. When all trusted peers have said so the next key takes the place of the
//! present one, and all links are made anew with it. A peer trusts the old id no longer once it has met the new one: nobody but a thief
//! would show it.
//!
//! A peer that is away keeps a rotation waiting. A person may end the wait, and such a peer then needs `hotspare trust` by hand; or no longer trust
//! one that never comes back.
//!
//! **Invariant:** a next id is believed only from the peer whose name it will have, and never if it is another's.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{MemoryError, learn_next_id, retire_old_id};
use crate::net::connection::Connection;
use crate::net::endpoint::Endpoint;
use crate::net::identity::{Identity, IdentityError, NodeId};
use crate::net::trust::TrustedPeers;
use crate::thought::wire::message::Heartbeat;
use crate::words::entry::Digest;
use crate::words::position::NodeName;

/// A node's own keys, and what it learns of its peers'.
pub struct Keys {
    state: PathBuf,
    trusted: TrustedPeers,
    endpoint: Arc<Endpoint>,
    rotation: Mutex<Option<Rotation>>,
    /// The certificate that is shown instead of a key of the state directory.
    certificate: Option<PathBuf>,
}

/// A key that waits to be used.
struct Rotation {
    next: Identity,
    /// Who trusts it.
    known_by: BTreeSet<NodeName>,
}

/// How a rotation stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotating {
    /// The new id.
    pub id: NodeId,
    /// Peers that do not know it yet, as far as this node was told.
    pub waiting_for: Vec<NodeName>,
    /// True if it is in use.
    pub is_done: bool,
}

/// Why a rotation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The key cannot be made, read or put in its place.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// What peers are trusted cannot be written down.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The key is not this node's to change.
    #[error("this node shows the certificate in {}: renew that file and its key, which is taken up by itself", .0.display())]
    Certified(PathBuf),
}

impl Keys {
    /// The keys of the node of `state`; a rotation that was begun goes on. A node that shows a `certificate` has none to rotate.
    pub fn load(
        state: PathBuf,
        trusted: TrustedPeers,
        endpoint: Arc<Endpoint>,
        certificate: Option<PathBuf>,
    ) -> Result<Self, KeysError> {
        let next = if certificate.is_none() { Identity::load_next(&state)? } else { None };
        let rotation = next.map(|next| Rotation { next, known_by: BTreeSet::new() });
        Ok(Self { state, trusted, endpoint, rotation: Mutex::new(rotation), certificate })
    }

    fn rotation(&self) -> MutexGuard<'_, Option<Rotation>> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a rotation, if none is under way; ends it if all peers know the next id, or if it is to be `now`.
    pub fn rotate(&self, now: bool) -> Result<Rotating, KeysError> {
        if let Some(path) = &self.certificate {
            return Err(KeysError::Certified(path.clone()));
        }
        let mut rotation = self.rotation();
        if rotation.is_none() {
            *rotation = Some(Rotation { next: Identity::create_next(&self.state)?, known_by: BTreeSet::new() });
        }
        self.go_on(&mut rotation, now)
    }

    /// What a heartbeat to the peer `name` says of keys: the next id of this node, and that of the peer which is trusted.
    pub fn beat(&self, name: &NodeName, heartbeat: Heartbeat, peer: &Peered) -> Heartbeat {
        let next_id = self.rotation().as_ref().map(|rotation| Digest(*rotation.next.id().as_bytes()));
        let accepted = peer.next.filter(|id| self.trusted.name_of(id).as_ref() == Some(name));
        Heartbeat { next_id, accepted_id: accepted.map(|id| Digest(*id.as_bytes())), ..heartbeat }
    }

    /// Takes in what a heartbeat of the peer `name` says of keys.
    pub fn heard(&self, name: &NodeName, heartbeat: &Heartbeat, peer: &mut Peered) {
        // A pin that a certificate brought about would outlast that certificate.
        if let Some(next) = heartbeat.next_id.map(|id| NodeId::from_bytes(id.0)).filter(|_| peer.is_pinned)
            && peer.next != Some(next)
        {
            peer.next = Some(next);
            match self.trusted.name_of(&next) {
                Some(known) if known == *name => {}
                _ if next == self.endpoint.id() => {
                    tracing::warn!(peer = %name, "it wants to go on with this node's own id")
                }
                Some(known) => {
                    tracing::warn!(peer = %name, id = %next, %known, "it wants to go on with the id of another node")
                }
                None => match learn_next_id(&self.state, &peer.id, &next, name) {
                    Ok(()) => {
                        tracing::info!(peer = %name, id = %next, "the peer has a new key; both are trusted until it is used");
                        self.trusted.trust(next, name.clone());
                    }
                    Err(error) => {
                        tracing::warn!(peer = %name, error = super::explain(&error), "its next id is not learnt")
                    }
                },
            }
        }
        let Some(accepted) = heartbeat.accepted_id else { return };
        let mut rotation = self.rotation();
        let is_news = rotation.as_mut().is_some_and(|rotation| {
            accepted.0 == *rotation.next.id().as_bytes() && rotation.known_by.insert(name.clone())
        });
        drop(rotation);
        if is_news {
            self.reconsider();
        }
    }

    /// Who is trusted, or who knows the next key, has changed: it is used if nobody is waited for any more.
    pub fn reconsider(&self) {
        let mut rotation = self.rotation();
        if rotation.is_some()
            && let Err(error) = self.go_on(&mut rotation, false)
        {
            tracing::warn!(error = super::explain(&error), "the next key cannot be put in its place");
        }
    }

    /// A peer was met over `connection`: what its key replaces is trusted no longer.
    pub fn met(&self, connection: &Connection) -> Peered {
        let id = connection.peer();
        match retire_old_id(&self.state, &id) {
            Ok(None) => {}
            Ok(Some(old)) => {
                tracing::info!(peer = %connection.name(), %old, new = %id, "the peer uses its new key; the old one is trusted no longer");
                if let Ok(old) = old.parse() {
                    self.trusted.untrust(&old);
                    self.endpoint.cut_untrusted();
                }
            }
            Err(error) => tracing::warn!(error = super::explain(&error), "an old id is still trusted"),
        }
        Peered { id, next: None, is_pinned: connection.is_pinned() }
    }

    fn go_on(&self, rotation: &mut Option<Rotation>, now: bool) -> Result<Rotating, KeysError> {
        let Some(Rotation { next, known_by }) = rotation else {
            return Ok(Rotating { id: self.endpoint.id(), waiting_for: Vec::new(), is_done: true });
        };
        let names = self.trusted.names();
        let waiting_for: Vec<NodeName> = names.difference(known_by).cloned().collect();
        let (next, is_done) = (next.clone(), now || waiting_for.is_empty());
        if is_done {
            Identity::use_next(&self.state)?;
            *rotation = None;
            tracing::info!(id = %next.id(), "the new key is in use; all links are made anew");
            self.endpoint.renew(next.clone());
        }
        Ok(Rotating { id: next.id(), waiting_for, is_done })
    }

    /// The peers that a rotation waits for, if one is under way.
    pub fn waiting_for(&self) -> Option<Vec<NodeName>> {
        let rotation = self.rotation();
        let known_by = &rotation.as_ref()?.known_by;
        let names = self.trusted.names();
        Some(names.difference(known_by).cloned().collect())
    }
}

/// What one link knows of its peer's keys.
#[derive(Clone, Debug)]
pub struct Peered {
    /// The id that it proved.
    id: NodeId,
    /// The one that it will have.
    next: Option<NodeId>,
    /// It is known by that id.
    is_pinned: bool,
}
