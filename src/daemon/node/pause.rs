//! `pause`, `resume` and `hold`.
//!
//! A pause is a person's word that this node is to stand still, which holds until it is taken back, over restarts too.
//!
//! A paused primary makes no generation and ships none; what changes is kept track of, and its age counts as lag. A paused standby has no link:
//! it goes on from where it stands when it is resumed.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Inner, Part};
use crate::control::{Hold, Refusal, RefusalClass};
use crate::daemon::keeper::wall_clock;
use crate::words::entry::Timestamp;

impl Inner {
    /// Pauses replication of this node, or lets it go on.
    pub(super) fn pause(&self, pause: bool) -> Result<(), Refusal> {
        {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let since = memory.paused_since.filter(|_| pause).or_else(|| pause.then(wall_clock));
            if memory.paused_since != since {
                let before = std::mem::replace(&mut memory.paused_since, since);
                if let Err(error) = memory.save(&self.options.state) {
                    memory.paused_since = before;
                    return Err(Refusal::new(RefusalClass::Other, crate::daemon::explain(&error)));
                }
                tracing::warn!("replication is {}", if pause { "paused, until `hotspare resume`" } else { "resumed" });
            }
        }
        match &self.part {
            Part::Primary { shared, .. } => shared.pause(pause),
            Part::Standby { context } => {
                context.paused.send_replace(pause);
            }
        }
        Ok(())
    }

    /// Has the replica stand still.
    pub(super) async fn hold(&self, longest: Duration) -> Result<Hold, Refusal> {
        let Part::Standby { context } = &self.part else {
            return Err(Refusal::new(RefusalClass::Guard, "this node is the primary: its home is written by others")
                .hint("run `hotspare hold` on a standby"));
        };
        let (keeper, kept) = oneshot::channel();
        match context.holder.hold(longest, kept).await {
            Ok(held) => Ok(Hold { position: held.position.to_string(), ended: held.why, keeper }),
            Err(why) => Err(Refusal::new(RefusalClass::Guard, why)),
        }
    }

    pub(super) fn paused_since(&self) -> Option<Timestamp> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).paused_since
    }

    /// A no to what needs a primary that makes generations.
    pub(super) fn refuse_if_paused(&self) -> Result<(), Refusal> {
        match self.paused_since() {
            None => Ok(()),
            Some(since) => {
                let long = humantime::format_duration(Duration::from_secs(wall_clock().since(since).as_secs()));
                Err(Refusal::new(RefusalClass::Guard, format!("replication of this node is paused, for {long} now"))
                    .hint("run `hotspare resume` first"))
            }
        }
    }
}
