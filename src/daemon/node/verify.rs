//! Verifying: the home is what the primary's tree says, each replica is what its own tree says, and the trees are equal.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Inner, Part};
use crate::audit::{AuditOptions, audit};
use crate::control::{Difference, PathKind, PeerReport, Refusal, RefusalClass, VerifyReport, What};
use crate::daemon::keeper::{Command, View};
use crate::daemon::peers::Ask;
use crate::fs::{Root, XattrPolicy};
use crate::observe::PathText;
use crate::observe::status::UnheldCounts;
use crate::thought::tree::Tree;
use crate::thought::wire::message::{Audit, Audited};
use crate::words::entry::{Digest, Kind};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// How often a comparison is repeated because the home went on changing.
const TRIES: u32 = 4;

impl Inner {
    pub(super) async fn verify(&self, paths: Vec<RelPath>) -> Result<VerifyReport, Refusal> {
        match &self.part {
            Part::Primary { .. } => {
                self.refuse_if_paused()?;
                self.verify_all(paths).await
            }
            Part::Standby { context } => {
                let audit = Audit { paths, content: true, mend: false };
                let asked = context.holder.inspect(audit.into(), Arc::new(|_| {})).await;
                let audited = asked.ok_or_else(|| {
                    Refusal::new(RefusalClass::Guard, "this standby holds no replica yet")
                        .hint("wait for its initial sync")
                })?;
                let entries = audited.entries;
                let peer = report(self.options.name.to_string(), audited, None);
                Ok(VerifyReport { equal: peer.equal, compared_entries: entries, peers: vec![peer] })
            }
        }
    }

    async fn verify_all(&self, paths: Vec<RelPath>) -> Result<VerifyReport, Refusal> {
        let ended = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        let home = self.steady_audit(paths.clone(), true).await?;
        let mut peers = Vec::new();
        for name in self.trusted.names() {
            let asks = self.peers.all().get(&name).and_then(|peer| peer.asks.clone());
            let Some(asks) = asks else {
                peers.push(absent(name.to_string()));
                continue;
            };
            let mut last = None;
            for _ in 0..TRIES {
                let position = self.mark().await.ok_or_else(ended)?.position;
                self.acked_by(&name, position).await;
                let view = self.view().await.ok_or_else(ended)?;
                let (reply, answer) = oneshot::channel();
                if asks
                    .send(Ask::Audit(Audit { paths: paths.clone(), content: true, mend: false }, reply))
                    .await
                    .is_err()
                {
                    break;
                }
                let Ok(audited) = answer.await else { break };
                // It goes on while it is looked at: what it is compared with is what the primary had at the position that it tells of.
                let ours =
                    if audited.position == view.position { Some(view.digest) } else { self.tree_at(audited.position) };
                let trouble = match ours {
                    Some(digest) if digest == audited.tree => None,
                    Some(_) => Some("its tree digest is not the primary's".to_owned()),
                    None => Some(format!(
                        "it stands at {}, the primary at {}: the home changes too fast",
                        audited.position, view.position
                    )),
                };
                last = Some(report(name.to_string(), audited, trouble));
                if ours.is_some() {
                    break;
                }
            }
            peers.push(last.unwrap_or_else(|| absent(name.to_string())));
        }
        if !home.differences.is_empty() {
            let total = home.differences.len() as u64;
            let trouble = match home.is_followed {
                true => "the home is not what the primary's own index says",
                false => "the home changes faster than is heard of: its own index does not have all of it yet",
            };
            let differences = home.differences.into_values().take(VerifyReport::DIFFERENCES_MAX).collect();
            peers.push(PeerReport {
                name: self.options.name.to_string(),
                equal: false,
                trouble: Some(trouble.into()),
                position: self.position().map(|position| position.to_string()),
                differences,
                differences_total: total,
                unheld: UnheldCounts::default(),
            });
        }
        let equal = !peers.is_empty() && peers.iter().all(|peer| peer.equal);
        Ok(VerifyReport { equal, compared_entries: home.entries, peers })
    }

    /// Compares the home with the primary's index until what differs goes on differing. Before each look there is a cut, so what an event told of
    /// is in the index by the next, if that cut has all; and a file that is being written is another at each look: what counts stands still and is
    /// not followed.
    pub(super) async fn steady_audit(&self, paths: Vec<RelPath>, content: bool) -> Result<HomeAudit, Refusal> {
        let mut home = self.audit_home(paths, content).await?;
        let mut before = BTreeMap::new();
        for _ in 1..TRIES {
            if home.differences.is_empty() {
                break;
            }
            let again = home.differences.keys().cloned().collect();
            let newer = self.audit_home(again, content).await?;
            before = std::mem::replace(&mut home.differences, newer.differences);
            home.is_followed = newer.is_followed;
        }
        home.differences.retain(|path, found| before.get(path) == Some(found));
        Ok(home)
    }

    /// The tree digest that the primary had at `position`, if it is remembered.
    fn tree_at(&self, position: Position) -> Option<Digest> {
        let Part::Primary { shared, .. } = &self.part else { return None };
        shared.window().tree_at(position)
    }

    async fn acked_by(&self, name: &crate::words::position::NodeName, position: Position) {
        let mut changed = self.peers.subscribe();
        let reached = async {
            while self.peers.all().get(name).and_then(|peer| peer.revealed).is_none_or(|at| at < position) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        // One that does not get there is told of by its position.
        tokio::time::timeout(std::time::Duration::from_secs(30), reached).await.ok();
    }

    pub(super) async fn view(&self) -> Option<View> {
        let Part::Primary { shared, keeper } = &self.part else { return None };
        let (reply, answer) = oneshot::channel();
        keeper.send(Command::View(reply)).await.ok()?;
        shared.wake();
        answer.await.ok()
    }

    async fn audit_home(&self, paths: Vec<RelPath>, content: bool) -> Result<HomeAudit, Refusal> {
        let ended = || Refusal::new(RefusalClass::Unreachable, "the daemon is ending");
        let failed = |text: String| Refusal::new(RefusalClass::Other, text);
        let marked = self.mark().await.ok_or_else(ended)?;
        let view = self.view().await.ok_or_else(ended)?;
        let (home, filter) = (self.options.home.clone(), view.filter.clone());
        let work = move || {
            let root = Root::open(&home).map_err(|error| crate::daemon::explain(&error))?;
            let tree = Tree::view(view.tree).map_err(|error| crate::daemon::explain(&error))?;
            let tree = tree.ok_or_else(|| "the primary has no tree yet".to_owned())?;
            let mut differences = BTreeMap::new();
            let options = AuditOptions { content, ..AuditOptions::default() };
            let audited = audit(&root, &tree, &filter, &XattrPolicy::default(), &paths, options, &mut |difference| {
                let told = Difference {
                    path: PathText(difference.path.clone()),
                    kind: difference.kind.map(kind),
                    what: what(difference.what.word()),
                    here: Some(difference.here),
                    there: Some(difference.there),
                };
                // Of what never stood still nothing can be said.
                if !marked.was_in_motion(&difference.path) && differences.len() < 10 * VerifyReport::DIFFERENCES_MAX {
                    differences.insert(difference.path, told);
                }
            });
            let audited = audited.map_err(|error| crate::daemon::explain(&error))?;
            Ok(HomeAudit { entries: audited.entries, differences, is_followed: marked.has_all })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| ended())?.map_err(failed)
    }
}

/// What a look at the home found, beside the primary's index.
pub(super) struct HomeAudit {
    entries: u64,
    pub(super) differences: BTreeMap<RelPath, Difference>,
    /// The index had all that had been written before the look. If not, what differs may have been told of, and not been heard of yet.
    pub(super) is_followed: bool,
}

pub(super) fn kind(kind: Kind) -> PathKind {
    match kind {
        Kind::File => PathKind::File,
        Kind::Directory => PathKind::Directory,
        Kind::Symlink => PathKind::Symlink,
    }
}

pub(super) fn absent(name: String) -> PeerReport {
    PeerReport {
        name,
        equal: false,
        trouble: Some("it is not connected".into()),
        position: None,
        differences: Vec::new(),
        differences_total: 0,
        unheld: UnheldCounts::default(),
    }
}

pub(super) fn report(name: String, audited: Audited, tree: Option<String>) -> PeerReport {
    let trouble = audited.failed.or(tree);
    PeerReport {
        name,
        equal: audited.differing == 0 && trouble.is_none(),
        trouble,
        position: Some(audited.position.to_string()),
        differences_total: audited.differing,
        differences: audited
            .differences
            .into_iter()
            .map(|found| Difference {
                path: PathText(found.path),
                kind: found.kind.map(kind),
                what: what(&found.what),
                here: Some(found.tree),
                there: Some(found.disk),
            })
            .collect(),
        unheld: audited.unheld.into(),
    }
}

fn what(word: &str) -> What {
    match word {
        "size" => What::Size,
        "missing" => What::Missing,
        "extra" => What::Extra,
        "kind" => What::Kind,
        "target" => What::Target,
        "mode" => What::Mode,
        "owner" => What::Owner,
        "mtime" => What::Mtime,
        "xattrs" => What::Xattrs,
        "links" => What::Links,
        _ => What::Content,
    }
}
