//! What the holder's own thread does for a look at the replica's disk: it says where that stands still, and takes in what was found.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::incoming::Incoming;
use super::look::{differing, failed};
use super::work::Work;
use crate::fs::{Able, XattrPolicy};
use crate::index::Snapshot;
use crate::reveal::{Depth, ReplicaError, Scope, Standing};
use crate::thought::filter::Filter;
use crate::thought::wire::message::{AUDIT_CAP, Audited};

/// A replica as of a moment at which its disk was what its index says, all of it revealed; and what is needed to compare the two.
#[derive(Clone, Debug)]
pub struct Still {
    /// The index.
    pub index: Snapshot,
    /// Where it stood.
    pub standing: Standing,
    /// What its disk can hold.
    pub able: Able,
    /// What is replicated.
    pub filter: Filter,
    /// Which xattrs are.
    pub xattrs: XattrPolicy,
    /// Its directory.
    pub home: PathBuf,
}

impl Work {
    /// The replica as it is now, or as it is held; `None` if there is no whole generation, or more is acked than is revealed.
    pub(super) fn still(&mut self) -> Result<Option<Still>, ReplicaError> {
        if self.held_as.is_some() {
            return Ok(self.held_as.clone());
        }
        self.reveal_all()?;
        let Some(replica) = &mut self.replica else { return Ok(None) };
        let Some(index) = replica.snapshot()? else { return Ok(None) };
        let (standing, able) = (replica.standing(), replica.able().clone());
        let (filter, xattrs, home) = ((self.filter)(), self.options.xattrs.clone(), self.options.home.clone());
        Ok(Some(Still { index, standing, able, filter, xattrs, home }))
    }

    pub(super) fn tell_still(&mut self, reply: oneshot::Sender<Result<Still, Audited>>) -> Result<(), ReplicaError> {
        let still = self.still()?;
        if let Some(replica) = &self.replica {
            let why = match replica.unrevealed() {
                0 => "it holds no whole generation yet",
                _ => "acked generations are not revealed yet",
            };
            reply.send(still.ok_or_else(|| failed(replica.standing(), why))).ok();
        }
        Ok(())
    }

    /// Takes what differs into the tree, to be mended by the next generation: looks once more, as far as `scope` goes, and reads what it
    /// takes in. An error leaves the replica unusable.
    pub(super) fn mend(&mut self, scope: &Scope, depth: Depth) -> Result<Option<Audited>, ReplicaError> {
        self.reveal_all()?;
        let Some(replica) = &self.replica else { return Ok(None) };
        if replica.unrevealed() > 0 {
            return Ok(Some(failed(replica.standing(), "acked generations are not revealed yet")));
        }
        // What is arriving was made for the replica as it should be.
        self.give_up()?;
        self.incoming = Incoming::Refused;
        let Some(replica) = &mut self.replica else { return Ok(None) };
        let mut list = Vec::new();
        let strays = replica.take_strays(&(self.filter)(), scope, depth, &mut |difference| {
            if list.len() < AUDIT_CAP {
                list.push(differing(difference.clone()));
            }
        })?;
        let told = Audited {
            entries: strays.audited.entries,
            differing: strays.audited.differing,
            differences: list,
            strayed: strays.paths,
            unheld: strays.audited.unheld,
            failed: None,
            ..failed(replica.standing(), "")
        };
        if self.held_as.take().is_some() {
            self.held_as = self.still()?;
        }
        Ok(Some(told))
    }

    /// What changed while nobody looked after the replica is found by its sizes and times, before it is said where it stands.
    pub(super) fn look_over(&mut self) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        let strays = replica.take_strays(&(self.filter)(), &Scope::everything(), Depth::Stat, &mut |_| {})?;
        if strays.paths > 0 {
            let (paths, entries) = (strays.paths, strays.audited.entries);
            tracing::warn!(paths, entries, "the replica was changed since it was left; the next generation mends it");
        }
        Ok(())
    }
}
