//! What a node says of itself.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Inner, Part};
use crate::daemon::keeper::{Report, wall_clock};
use crate::daemon::peers::{Busy, Peer};
use crate::daemon::standby::{FILTERS_DIFFER, StandbyReport};
use crate::observe::PathText;
use crate::observe::status::{
    GenerationCounts, NodeStatus, PeerStatus, Pending, ProgressStatus, QualityStatus, ReignStatus, RoleStatus,
    SAMPLE_MAX, Skipped, State, Status, Unreadable, UnreadablePath, Watches,
};
use crate::thought::filter::Rules;
use crate::thought::generation::{NamedPaths, Quality};
use crate::thought::wire::message::{CatchingUp, Held, Role};
use crate::words::path::RelPath;
use crate::words::position::Position;

/// So many alarms of one kind are told at most.
const ALARMS_MAX: usize = 20;

impl Inner {
    pub(super) fn status(&self) -> Status {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let position = self.position();
        let role = match self.options.role {
            Role::Primary => RoleStatus::Primary,
            Role::Standby => RoleStatus::Standby,
        };
        let node = NodeStatus {
            name: self.options.name.to_string(),
            id: self.endpoint.id().to_string(),
            role,
            instance: self.instance.to_string(),
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut status = Status::starting(node, self.options.home.display().to_string());
        status.home.id = memory.home.map(|home| home.to_string());
        status.reign = memory.reign().map(|reign| ReignStatus { id: reign.id.to_string(), epoch: reign.epoch });
        status.position = position.map(|position| position.to_string());
        status.peers = self.peer_statuses();
        match &self.part {
            Part::Primary { shared, .. } => {
                status.chain = Some(shared.window().head().1.0.to_string());
                let report = shared.report().clone();
                primary(&mut status, &report);
            }
            Part::Standby { context } => {
                let report = context.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
                standby(&mut status, &report, position);
                let is_other = |rules: &Rules| *rules != context.filters.rules();
                status.warnings.extend(memory.filter.as_ref().is_some_and(is_other).then(|| FILTERS_DIFFER.to_owned()));
                if let Some((position, since)) = context.holder.held() {
                    status.position = Some(position.to_string());
                    status.still_seconds = Some(since.elapsed().as_secs_f64());
                }
                held_back(&mut status, context.holder.waits_for());
            }
        }
        if let Some(since) = self.paused_since() {
            status.paused_seconds = Some(wall_clock().since(since).as_secs_f64());
            if status.state != State::Stuck {
                status.state = State::Paused;
            }
        }
        status.scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.progress = self.resync.lock().unwrap_or_else(PoisonError::into_inner).clone().or(status.progress);
        status.alarms.extend(held_peers(&status.peers));
        self.say(&mut status);
        status
    }

    /// What is to be said of peers, keys and certificates.
    fn say(&self, status: &mut Status) {
        let is_linked = status.peers.iter().any(|peer| peer.connected);
        let hopeless = self.hopeless.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.alarms.extend(hopeless.filter(|text| !is_linked && !status.alarms.contains(text)));
        self.say_of_configuration(status);
        status.warnings.extend(self.waiting_key());
        status.warnings.extend(self.certificates.warnings());
        status.alarms.extend(self.certificates.alarms());
        status.alarms.extend(self.peers.unwelcome(&self.trusted, crate::daemon::primary::now()));
        status.alarms.extend(self.peers.went_back());
        status.alarms.extend(self.peers.waiting());
    }

    /// What is to be said of a key that waits to be used.
    fn waiting_key(&self) -> Option<String> {
        let names: Vec<String> = self.keys.waiting_for()?.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        Some(format!(
            "a new key waits until it is known to: {names} (`hotspare rotate --now` ends the wait, and so does `hotspare untrust` of one that is gone for good)"
        ))
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let all = self.peers.all();
        let trusted = self.trusted.names();
        let mut names: Vec<_> = self.trusted.list().into_iter().map(|(id, name)| (Some(id), name)).collect();
        let configured = self.options.peers.iter().map(|peer| &peer.name);
        let others: BTreeSet<_> = trusted.iter().chain(configured).collect();
        let others = others.into_iter().filter(|name| names.iter().all(|(_, known)| known != *name));
        names.extend(others.map(|name| (None, name.clone())).collect::<Vec<_>>());
        names.sort_by(|(_, a), (_, b)| a.cmp(b));
        names
            .into_iter()
            .map(|(pinned, name)| {
                let known = Peer::default();
                let peer = all.get(&name).unwrap_or(&known);
                let met = peer.id.clone().filter(|_| trusted.contains(&name));
                PeerStatus {
                    name: name.to_string(),
                    id: pinned.map(|id| id.to_string()).or(met),
                    address: peer.address.clone().or_else(|| {
                        self.options.peers.iter().find(|known| known.name == name)?.addresses.first().cloned()
                    }),
                    role: trusted.contains(&name).then_some(match self.options.role {
                        Role::Primary => RoleStatus::Standby,
                        Role::Standby => RoleStatus::Primary,
                    }),
                    connected: peer.busy != Busy::Absent,
                    state: state(peer.busy),
                    acked: peer.acked.map(|position| position.to_string()),
                    revealed: peer.revealed.map(|position| position.to_string()),
                    lag_seconds: self.lag(peer),
                    bytes_sent: peer.sent.load(Ordering::Relaxed),
                    bytes_received: 0,
                    unheld: peer.heartbeat.as_ref().map(|beat| beat.unheld.into()).unwrap_or_default(),
                    held: peer.heartbeat.as_ref().and_then(|beat| Some(beat.held.as_ref()?.text.clone())),
                    trouble: peer.trouble.clone(),
                }
            })
            .collect()
    }

    /// How far the peer is behind, by the primary's clock.
    fn lag(&self, peer: &Peer) -> Option<f64> {
        let Part::Primary { shared, .. } = &self.part else { return None };
        peer.acked.map(|acked| shared.lag_after(acked).as_secs_f64())
    }
}

fn held_back(status: &mut Status, held: Option<Held>) {
    if let Some(held) = held {
        status.state = State::Held;
        status.alarms.push(held.text);
    }
}

/// What connected peers say that holds them back.
fn held_peers(peers: &[PeerStatus]) -> Vec<String> {
    let connected = peers.iter().filter(|peer| peer.connected);
    connected.filter_map(|peer| Some(format!("{}: {}", peer.name, peer.held.as_ref()?))).collect()
}

fn primary(status: &mut Status, report: &Report) {
    status.home.entries = report.entries;
    status.home.bytes = report.bytes;
    status.home.content_read_bytes = report.read_bytes;
    status.home.filesystem.clone_from(&report.filesystem);
    let any = |state| status.peers.iter().any(|peer| peer.state == state);
    status.state = if report.failed.is_some() {
        State::Stuck
    } else if report.is_held {
        State::Held
    } else if !report.is_ready {
        State::Scanning
    } else if any(State::InitialSync) {
        State::InitialSync
    } else if any(State::CatchingUp) {
        State::CatchingUp
    } else if any(State::Streaming) {
        State::Streaming
    } else {
        State::WaitingForPeer
    };
    status.promotable.why_not.push("it is the primary already".into());
    status.quality = report.quality.as_ref().map(|(quality, deferred)| quality_of(quality, deferred));
    status.generations = GenerationCounts {
        by_quality: report.by_quality.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        by_reason: report.by_reason.iter().map(|(reason, count)| (reason.word().to_owned(), *count)).collect(),
    };
    status.pending = Pending {
        paths: report.pending,
        oldest_age_seconds: report.oldest.map(|oldest| wall_clock().since(oldest).as_secs_f64()),
        sample: sample(report.sample.iter()),
    };
    let findings = &report.findings;
    status.skipped = Skipped {
        sockets: findings.sockets.count(),
        fifos: findings.fifos.count(),
        devices: findings.devices.count(),
        sample: sample(
            [&findings.sockets, &findings.fifos, &findings.devices]
                .into_iter()
                .flat_map(|listed| listed.iter())
                .map(|(path, _)| path),
        ),
    };
    status.unreadable = Unreadable {
        count: findings.unreadable.count(),
        sample: findings
            .unreadable
            .iter()
            .take(SAMPLE_MAX)
            .map(|(path, reason)| UnreadablePath { path: PathText(path.clone()), reason: reason.to_owned() })
            .collect(),
    };
    status.watches = Watches {
        placed: report.watches,
        polled: report.polled,
        limit_hint: report.limit_hint.clone(),
        overflows: findings.overflows,
        home_scanned_every_seconds: report.polls_home.map(|every| every.as_secs()),
    };
    status.alarms.extend(report.failed.clone());
    status.alarms.extend(report.alarms.iter().take(ALARMS_MAX).cloned());
    status.progress = (!report.is_ready).then(|| ProgressStatus {
        phase: "reading the home".into(),
        entries_done: report.entries,
        entries_total: None,
        bytes_done: report.bytes,
        bytes_total: None,
    });
}

fn standby(status: &mut Status, report: &StandbyReport, position: Option<Position>) {
    let is_linked = status.peers.iter().any(|peer| peer.connected);
    status.state = if report.stuck.is_some() {
        State::Stuck
    } else if !is_linked {
        State::WaitingForPeer
    } else if position.is_none() {
        State::InitialSync
    } else if report.progress.is_some() {
        State::CatchingUp
    } else {
        State::Streaming
    };
    // Of one that is stuck before it could be opened nobody knows what it holds.
    if position.is_none() && report.stuck.is_none() {
        status.promotable.why_not.push("it holds no complete generation yet".into());
    }
    if let Some(stuck) = &report.stuck {
        status.promotable.why_not.push(stuck.clone());
        status.alarms.push(stuck.clone());
    }
    if let Some(stand) = report.stand.as_ref().filter(|stand| stand.strayed > 0) {
        let count = stand.strayed;
        status
            .promotable
            .why_not
            .push(format!("{count} paths of it were changed by hand or damaged, and are not mended yet"));
    }
    status.promotable.yes = status.promotable.why_not.is_empty();
    if let Some(stand) = &report.stand {
        status.chain = Some(stand.standing.chain.0.to_string());
        status.home.id = Some(stand.standing.home.to_string());
        (status.home.entries, status.home.bytes) = (stand.counts.entries + 1, stand.counts.bytes);
        status.unheld = stand.unheld.into();
    }
    let claim = report.stand.as_ref().and_then(|stand| stand.claim.as_ref());
    status.quality = claim.map(|claim| quality_of(&claim.quality, &claim.deferred));
    status.generations = GenerationCounts {
        by_quality: report.by_quality.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect(),
        by_reason: report.by_reason.iter().map(|(reason, count)| (reason.word().to_owned(), *count)).collect(),
    };
    status.home.filesystem.clone_from(&report.filesystem);
    status.lag_seconds = Some(report.behind.lag(is_linked, crate::daemon::primary::now()).as_secs_f64());
    if let Some(heartbeat) = &report.heard {
        status.pending.paths = heartbeat.pending;
        status.pending.sample = sample(heartbeat.sample.iter());
    }
    status.progress = report.progress.as_ref().map(progress_of);
}

/// What a primary tells a standby of its progress, for people.
pub(super) fn progress_of(progress: &CatchingUp) -> ProgressStatus {
    let total = |count: u64| (count > 0).then_some(count);
    ProgressStatus {
        phase: progress.phase.clone(),
        entries_done: progress.entries.0,
        entries_total: total(progress.entries.1),
        bytes_done: progress.bytes.0,
        bytes_total: total(progress.bytes.1),
    }
}

fn quality_of(quality: &Quality, deferred: &NamedPaths) -> QualityStatus {
    let (word, reasons) = quality.told();
    let reasons = reasons.iter().map(|reason| reason.word().to_owned()).collect();
    QualityStatus { quality: word.to_owned(), reasons, deferred: sample(deferred.sample.iter()) }
}

fn state(busy: Busy) -> State {
    match busy {
        Busy::Absent => State::WaitingForPeer,
        Busy::InitialSync => State::InitialSync,
        Busy::CatchingUp => State::CatchingUp,
        Busy::Streaming => State::Streaming,
    }
}

fn sample<'a>(paths: impl Iterator<Item = &'a RelPath>) -> Vec<PathText> {
    paths.take(SAMPLE_MAX).map(|path| PathText(path.clone())).collect()
}
