//! A reign that begins while the primary runs.
//!
//! A primary that ended in order goes on with its reign where it stood. If its state directory was put back to what it was before (a backup was
//! restored), it does not know what else it made of that reign, until it meets a standby that took it. Two states may not have one position:
//! it begins a new reign, which every standby follows by comparing trees.

use std::sync::PoisonError;

use tokio::sync::oneshot;

use super::{PrimaryContext, SessionError};
use crate::daemon::keeper::Command;
use crate::thought::wire::message::Hello;
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, InstanceNonce, Reign, ReignId};

/// Where the history of `reign` begins in one run of a primary.
///
/// It begins anew with every start: whoever followed before is compared, which costs what differs.
pub fn first_chain(reign: ReignId, instance: InstanceNonce) -> ChainDigest {
    ChainDigest(Digest::of(&[&reign.0[..], &instance.0].concat()))
}

impl PrimaryContext {
    /// The reigns known, this node's own last.
    pub(super) fn reigns(&self) -> Vec<Reign> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).reigns.clone()
    }

    /// Begins a reign, because `standby` stands where this one did not lead. Once this returns it is written down, and acted on.
    pub(in crate::daemon) async fn begin_reign(&self, standby: &Hello) -> Result<(), SessionError> {
        let reign = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let here = self.shared.window().head().0;
            // Several may come at once; what is not begun yet is not begun twice.
            match memory.reign() {
                Some(reign) if reign.epoch > standby.position.epoch => reign,
                _ => {
                    let mut id = ReignId::default();
                    getrandom::fill(&mut id.0).map_err(|_| SessionError::Random)?;
                    let mut next = memory.clone();
                    let reign = next.begin_reign(id, here);
                    next.save(&self.state)?;
                    *memory = next;
                    tracing::warn!(
                        standby = %standby.node, stands_at = %standby.position, %here, epoch = reign.epoch,
                        "the standby has more of this reign than this primary remembers: its state directory was put back to an older one; \
                         a new reign begins"
                    );
                    reign
                }
            }
        };
        let (reply, begun) = oneshot::channel();
        let command = Command::Reign(reign, first_chain(reign.id, self.hello.instance), reply);
        self.keeper.send(command).await.map_err(|_| SessionError::Ending)?;
        self.shared.wake();
        begun.await.map_err(|_| SessionError::Ending)
    }
}
