//! A person's word that what a guard holds back is meant so.

use super::{Inner, Part};
use crate::control::{Refusal, RefusalClass, ReleaseOutcome};
use crate::daemon::holder::Job;
use crate::daemon::keeper::Command;
use crate::daemon::peers::Ask;
use crate::thought::wire::message::HeldBy;

impl Inner {
    /// On a standby: lets through what its fuse holds back. On a primary: what its own guard holds back, and what the fuses of connected standbys do.
    pub(super) async fn release(&self) -> Result<ReleaseOutcome, Refusal> {
        let ending = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        let released = match &self.part {
            Part::Standby { context } => {
                context.holder.ask(Job::Release).await.ok_or_else(ending)?.into_iter().collect()
            }
            Part::Primary { shared, keeper } => {
                let (reply, answer) = tokio::sync::oneshot::channel();
                keeper.send(Command::Release(reply)).await.map_err(|_| ending())?;
                shared.wake();
                let mut released = answer.await.map_err(|_| ending())?;
                for (name, text, asks) in self.fused_peers() {
                    // One whose link has just ended will say so itself when it is back.
                    if asks.send(Ask::Release).await.is_ok() {
                        released.push(format!("standby {name}: {text}"));
                    }
                }
                released
            }
        };
        if released.is_empty() {
            let text = "nothing is held back that a word could let through";
            return Err(Refusal::new(RefusalClass::Guard, text).hint("`hotspare status` tells what the matter is"));
        }
        Ok(ReleaseOutcome { released })
    }

    fn fused_peers(&self) -> Vec<(String, String, tokio::sync::mpsc::Sender<Ask>)> {
        let all = self.peers.all();
        let fused = all.iter().filter_map(|(name, peer)| {
            let held = peer.heartbeat.as_ref()?.held.as_ref().filter(|held| held.by == HeldBy::Fuse)?;
            Some((name.to_string(), held.text.clone(), peer.asks.clone()?))
        });
        fused.collect()
    }
}
