//! `resync`: both sides are compared and mended now.
//!
//! First the home with the primary's own index: what no event told of is captured. Then each replica's disk with its own index: what was changed
//! by hand, or is damaged, is taken into that index, which makes it another tree than the primary's; the comparison of trees that follows mends
//! it by an ordinary generation, and what that replaces is put aside.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::oneshot;

use super::verify::{absent, report};
use super::{Inner, Part};
use crate::control::{Difference, Refusal, RefusalClass, ResyncAsk, ResyncReport, ResyncedPeer, VerifyReport};
use crate::daemon::keeper::{Command, Marked};
use crate::daemon::peers::{Ask, Busy};
use crate::daemon::primary::now;
use crate::observe::status::ProgressStatus;
use crate::thought::wire::message::Audit;
use crate::words::path::RelPath;
use crate::words::position::{NodeName, Position};

/// A standby that is gone for so long is not waited for.
const GONE_AFTER: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn resync(&self, asked: ResyncAsk) -> Result<ResyncReport, Refusal> {
        let Part::Primary { .. } = &self.part else {
            return Err(Refusal::new(RefusalClass::Guard, "this node is a standby; it is compared with its primary")
                .hint("run `hotspare resync` on the primary"));
        };
        self.held().map_or(Ok(()), Err)?;
        self.refuse_if_paused()?;
        let _under_way = self.begin_resync()?;
        let paths: Vec<RelPath> = asked.paths.into_iter().map(|path| path.0).collect();
        let home = self.resync_home(&paths, asked.checksum, asked.dry_run).await?;
        let mut peers = Vec::new();
        for name in self.trusted.names() {
            let audit = Audit { paths: paths.clone(), content: asked.checksum, mend: !asked.dry_run };
            peers.push(self.resync_peer(&name, audit).await?);
        }
        let home_total = home.len() as u64;
        let home = home.into_iter().take(VerifyReport::DIFFERENCES_MAX).collect();
        Ok(ResyncReport { dry_run: asked.dry_run, home, home_total, peers })
    }

    /// What differs between the home and the primary's index; captured by now, unless nothing is to be changed.
    async fn resync_home(&self, paths: &[RelPath], checksum: bool, dry_run: bool) -> Result<Vec<Difference>, Refusal> {
        self.resync_is_at("comparing the home with its index");
        let audited = self.steady_audit(paths.to_vec(), checksum).await?;
        if !dry_run {
            self.resync_is_at("capturing what was missed");
            let whole = audited.differences.keys().cloned().collect();
            self.rescan(paths.to_vec(), whole).await?;
        }
        Ok(audited.differences.into_values().collect())
    }

    pub(super) async fn rescan(&self, paths: Vec<RelPath>, whole: BTreeSet<RelPath>) -> Result<Marked, Refusal> {
        let ended = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        let Part::Primary { shared, keeper } = &self.part else { return Err(ended()) };
        let (reply, answer) = oneshot::channel();
        keeper.send(Command::Rescan { paths, whole, reply }).await.map_err(|_| ended())?;
        shared.wake();
        answer.await.map_err(|_| ended())
    }

    async fn resync_peer(&self, name: &NodeName, audit: Audit) -> Result<ResyncedPeer, Refusal> {
        let ended = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        self.resync_is_at(&format!("{name} compares its disk with its index"));
        let asks = self.peers.all().get(name).and_then(|peer| peer.asks.clone());
        let (reply, answer) = oneshot::channel();
        let is_asked = match asks {
            Some(asks) => asks.send(Ask::Audit(audit, reply)).await.is_ok(),
            None => false,
        };
        let audited = if is_asked { answer.await.ok() } else { None };
        let Some(audited) = audited else {
            let trouble = absent(name.to_string()).trouble;
            return Ok(ResyncedPeer { name: name.to_string(), trouble, ..ResyncedPeer::default() });
        };
        let strayed = audited.strayed;
        let told = report(name.to_string(), audited, None);
        let mut peer = ResyncedPeer {
            name: told.name,
            trouble: told.trouble,
            differences: told.differences,
            differences_total: told.differences_total,
            mended: 0,
        };
        if strayed > 0 {
            self.resync_is_at(&format!("{name} is being mended"));
            let position = self.mark().await.ok_or_else(ended)?.position;
            if self.is_shown_by(name, position).await {
                peer.mended = strayed;
            } else {
                peer.trouble = Some("it went away before it was mended; it will be when it is back".into());
            }
        }
        Ok(peer)
    }

    /// True when the standby shows `position`; false if it is gone for long.
    async fn is_shown_by(&self, name: &NodeName, position: Position) -> bool {
        let mut changed = self.peers.subscribe();
        let mut seen = now();
        loop {
            let (busy, revealed) =
                self.peers.all().get(name).map_or((Busy::Absent, None), |peer| (peer.busy, peer.revealed));
            if busy == Busy::Streaming && revealed.is_some_and(|at| at >= position) {
                return true;
            }
            if busy != Busy::Absent {
                seen = now();
            } else if seen.elapsed() > GONE_AFTER {
                return false;
            }
            tokio::time::timeout(Duration::from_secs(1), changed.changed()).await.ok();
        }
    }

    fn begin_resync(&self) -> Result<UnderWay<'_>, Refusal> {
        let mut resync = self.resync.lock().unwrap_or_else(PoisonError::into_inner);
        if resync.is_some() {
            return Err(Refusal::new(RefusalClass::Guard, "another resync is under way")
                .hint("wait for its end; `hotspare status` tells how far it is"));
        }
        *resync = Some(ProgressStatus::default());
        Ok(UnderWay(self))
    }

    fn resync_is_at(&self, phase: &str) {
        let progress = ProgressStatus { phase: phase.to_owned(), ..ProgressStatus::default() };
        *self.resync.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }
}

/// As long as it is there, no other resync begins.
struct UnderWay<'a>(&'a Inner);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.resync.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
