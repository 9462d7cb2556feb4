//! The two sides of a link as state machines: what they were told and `now` go in, what to do comes out. No sockets, no clock.
//!
//! **Equal means equal.** A standby's tree says what the primary has, as far as the primary's filter (which its hello carries) lets it through:
//! owners, modes and attributes stand in it whether or not the standby's disk can hold them. So one tree digest is that of every standby,
//! whatever its privileges and file system; what a disk falls short of is known by its abilities, counted, and told in every heartbeat.
//!
//! [`judge`] is what both do with the other's hello, [`Pulse`] says when the other is gone, [`patience`] when to look for it again,
//! [`bucket`] how fast to send. [`sender`] is the primary's side of one standby. On the standby's side [`follower`] hears the control stream,
//! [`arrival`] the data streams, and [`receiver`] judges which generation is taken.

pub mod arrival;
pub mod bucket;
pub mod follower;
pub mod patience;
pub mod receiver;
pub mod sender;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::wire::message::{Hello, KNOWN_NEEDS, Refused, RefusedWhy, Role};

/// How often a node gives a sign of life.
///
/// A dead or half-open link is given up at either end 10 s after the last sign of life, whatever the network does: by [`Pulse`], or before
/// that by QUIC, whose idle time is 8 s. What hangs behind a living connection (a peer whose disk stands still) is not dead, only late.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// After so long a silence the other side is taken for gone.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Looks at the other's hello; the protocol version to speak, or why not to speak.
pub fn judge(ours: &Hello, theirs: &Hello) -> Result<u16, Refused> {
    let refuse = |why, text: String| Err(Refused { why, text });
    let newest = ours.protocols.1.min(theirs.protocols.1);
    if newest < ours.protocols.0.max(theirs.protocols.0) {
        let older = if ours.protocols.1 < theirs.protocols.1 { ours } else { theirs };
        let text = format!(
            "node {} speaks protocols {} to {}, node {} speaks {} to {}; upgrade hotspare on {}",
            ours.node,
            ours.protocols.0,
            ours.protocols.1,
            theirs.node,
            theirs.protocols.0,
            theirs.protocols.1,
            older.node
        );
        return refuse(RefusedWhy::Protocol, text);
    }
    let unknown = theirs.needs & !KNOWN_NEEDS;
    if unknown != 0 {
        let text = format!(
            "node {} needs what hotspare on {} does not know (features {unknown:#x}); upgrade hotspare on {}",
            theirs.node, ours.node, ours.node
        );
        return refuse(RefusedWhy::Protocol, text);
    }
    if ours.node == theirs.node {
        let text = if ours.instance == theirs.instance {
            format!("node {} reached itself; check the addresses of its peers", ours.node)
        } else {
            format!("two nodes are named {}; give each its own [node] name", ours.node)
        };
        return refuse(RefusedWhy::Name, text);
    }
    if ours.role == theirs.role {
        let word = if ours.role == Role::Primary { "primary" } else { "standby" };
        return refuse(RefusedWhy::Role, format!("nodes {} and {} are both {word}", ours.node, theirs.node));
    }
    if let (Some(a), Some(b)) = (ours.cluster, theirs.cluster)
        && a != b
    {
        return refuse(
            RefusedWhy::Cluster,
            format!("node {} is of cluster {a}, node {} of cluster {b}", ours.node, theirs.node),
        );
    }
    if let (Some(a), Some(b)) = (ours.home, theirs.home)
        && a != b
    {
        let text = format!(
            "node {} has home {a}, node {} a replica of home {b}; give the standby an empty directory, or adopt this one",
            ours.node, theirs.node
        );
        return refuse(RefusedWhy::Home, text);
    }
    let (primary, standby) = if ours.role == Role::Primary { (ours, theirs) } else { (theirs, ours) };
    let highest = |hello: &Hello| hello.reigns.iter().max_by_key(|reign| reign.epoch).copied();
    if let Some(known) = highest(standby) {
        let reign = highest(primary);
        let epoch = reign.map_or(0, |reign| reign.epoch);
        if known.epoch > epoch {
            let text = format!(
                "node {} knows epoch {}, and primary {} is only at epoch {epoch}: it was deposed",
                standby.node, known.epoch, primary.node,
            );
            return refuse(RefusedWhy::Reign, text);
        }
        // Each standby keeps to the one that it met first.
        if let Some(reign) = reign.filter(|reign| reign.epoch == known.epoch && reign.id != known.id) {
            let text = format!(
                "two primaries reign with epoch {epoch}: node {} follows the reign {}, and primary {} is of the reign {}; stop one of \
                 them: the next reign settles it",
                standby.node, known.id, primary.node, reign.id,
            );
            return refuse(RefusedWhy::Reign, text);
        }
    }
    Ok(newest)
}

/// Says when to give a sign of life, and when the other side has been silent too long.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    heard: Instant,
    sent: Instant,
}

impl Pulse {
    /// A link that begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { heard: now, sent: now }
    }

    /// Something was heard.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// True if a heartbeat is due; it counts as sent.
    pub fn beat(&mut self, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.sent) >= HEARTBEAT;
        if is_due {
            self.sent = now;
        }
        is_due
    }

    /// How long nothing was heard.
    pub fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// True if the other side must be taken for gone.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.silence(now) >= SILENCE
    }
}
