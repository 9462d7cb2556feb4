//! Looking at the replica's disk: when it is opened, for `verify` and for `resync`.

use super::incoming::Incoming;
use super::work::Work;
use crate::audit::{self, AuditOptions};
use crate::fs::XattrPolicy;
use crate::reveal::{Depth, Replica, ReplicaError};
use crate::thought::wire::message::{AUDIT_CAP, Audit, Audited, Differing, UnheldCounts};

impl Work {
    /// Compares the disk with the tree, and takes into the tree what differs if that is asked for. An error leaves the replica unusable;
    /// whatever else goes wrong is part of the answer.
    pub(super) fn inspect(&mut self, asked: &Audit) -> Result<Option<Audited>, ReplicaError> {
        let Some(replica) = &self.replica else { return Ok(None) };
        if replica.unrevealed() > 0 {
            return Ok(Some(failed(replica, "acked generations are not revealed yet".into())));
        }
        let depth = if asked.content { Depth::Content } else { Depth::Stat };
        if !asked.mend {
            return Ok(Some(self.compare(replica, asked)));
        }
        let mut differences = 0;
        let found = replica.look(&(self.filter)(), &asked.paths, depth, None, &mut |_| differences += 1);
        match found {
            Ok(found) if differences == 0 => {
                let mut told = failed(replica, String::new());
                (told.entries, told.unheld, told.failed) = (found.entries, found.unheld, None);
                return Ok(Some(told));
            }
            Ok(_) => {}
            Err(error) => return Ok(Some(failed(replica, crate::daemon::explain(&error)))),
        }
        // What is arriving was made for the replica as it should be.
        self.give_up()?;
        self.incoming = Incoming::Refused;
        let Some(replica) = &mut self.replica else { return Ok(None) };
        let mut list = Vec::new();
        let strays = replica.take_strays(&(self.filter)(), &asked.paths, depth, None, &mut |difference| {
            if list.len() < AUDIT_CAP {
                list.push(differing(difference.clone()));
            }
        })?;
        let mut told = failed(replica, String::new());
        (told.entries, told.differing) = (strays.audited.entries, strays.audited.differing);
        (told.unheld, told.strayed) = (strays.audited.unheld, strays.paths);
        (told.differences, told.failed) = (list, None);
        Ok(Some(told))
    }

    fn compare(&self, replica: &Replica, asked: &Audit) -> Audited {
        let able = replica.able().clone();
        let options = AuditOptions { able, content: asked.content, ..AuditOptions::default() };
        let mut told = failed(replica, String::new());
        let policy = XattrPolicy::default();
        let found = audit::audit(
            replica.root(),
            replica.tree(),
            &(self.filter)(),
            &policy,
            &asked.paths,
            options,
            &mut |difference| {
                if told.differences.len() < AUDIT_CAP {
                    told.differences.push(differing(difference));
                }
            },
        );
        told.failed = None;
        match found {
            Ok(found) => {
                (told.entries, told.differing) = (found.entries, found.differing);
                told.unheld = found.unheld;
            }
            Err(error) => told.failed = Some(crate::daemon::explain(&error)),
        }
        told
    }

    /// What changed while nobody looked after the replica is found by its sizes and times, before it is said where it stands.
    pub(super) fn look_over(&mut self) -> Result<(), ReplicaError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        let strays = replica.take_strays(&(self.filter)(), &[], Depth::Stat, None, &mut |_| {})?;
        if strays.paths > 0 {
            let (paths, entries) = (strays.paths, strays.audited.entries);
            tracing::warn!(paths, entries, "the replica was changed since it was left; the next generation mends it");
        }
        Ok(())
    }
}

/// An answer that says only where the replica stands, and why no more.
fn failed(replica: &Replica, why: String) -> Audited {
    let standing = replica.standing();
    Audited {
        position: standing.position,
        tree: standing.tree,
        entries: 0,
        differing: 0,
        differences: Vec::new(),
        strayed: 0,
        unheld: UnheldCounts::default(),
        failed: Some(why),
    }
}

fn differing(difference: audit::Difference) -> Differing {
    let audit::Difference { path, kind, what, here, there } = difference;
    Differing { path, kind, what: what.word().to_owned(), tree: there, disk: here }
}
