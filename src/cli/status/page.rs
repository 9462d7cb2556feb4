//! The page for people: read at three in the morning, so what needs a person comes first and nothing wraps that need not.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use indicatif::{HumanBytes, HumanCount};

use crate::observe::PathText;
use crate::observe::status::{PeerStatus, RoleStatus, State, Status, UnheldCounts};

/// What a terminal has at least.
const COLUMNS: usize = 80;
/// How many paths of a sample are shown; all of it is in the JSON.
const SHOWN: usize = 3;

pub(super) fn render(status: &Status) -> Result<String, fmt::Error> {
    let mut page = String::new();
    for alarm in &status.alarms {
        wrapped(&mut page, "ALARM  ", alarm)?;
    }
    for warning in &status.warnings {
        writeln!(page, "warning  {warning}")?;
    }
    if let Some(since) = status.paused_seconds {
        writeln!(page, "PAUSED  for {}; `hotspare resume` lets it go on", seconds(since))?;
    }
    if let Some(since) = status.still_seconds {
        writeln!(page, "STILL  for {}, by `hotspare hold`; what is acked meanwhile is shown after it", seconds(since))?;
    }
    let node = &status.node;
    writeln!(page, "{}: {}, {}", node.name, role(node.role), state(status.state))?;
    let mut line = |label: &str, text: String| wrapped(&mut page, &format!("  {label:<12}"), &text);
    let home = &status.home;
    let (entries, bytes) = (HumanCount(home.entries), HumanBytes(home.bytes));
    // A replica that is not open yet is not counted.
    if home.entries == 0 {
        line("home", home.path.clone())?;
    } else {
        line("home", format!("{} ({}), {entries} entries, {bytes}", home.path, home.filesystem))?;
    }
    line("position", position(status))?;
    line("generations", generations(status))?;
    line("promotable", promotable(status))?;
    line("pending", pending(status))?;
    if let Some(lag) = status.lag_seconds {
        line("lag", seconds(lag))?;
    }
    if let Some(progress) = &status.progress {
        let entries = out_of(progress.entries_done, progress.entries_total, |count| HumanCount(count).to_string());
        let bytes = out_of(progress.bytes_done, progress.bytes_total, |bytes| HumanBytes(bytes).to_string());
        line("progress", format!("{}: {entries} entries, {bytes}", progress.phase))?;
    }
    if let Some(scrub) = status.scrub.as_ref().filter(|scrub| scrub.found > 0) {
        let (found, entries) = (HumanCount(scrub.found), HumanCount(scrub.entries));
        line("scrub", format!("{found} paths found different, of {entries} looked at; see the log"))?;
    }
    let watches = &status.watches;
    if watches.polled > 0 {
        let (placed, polled) = (HumanCount(watches.placed), HumanCount(watches.polled));
        line("watches", format!("{placed} placed, {polled} directories are polled for want of one"))?;
        if let Some(hint) = &watches.limit_hint {
            line("", hint.clone())?;
        }
    }
    if watches.overflows > 0 {
        line(
            "overflows",
            format!("{} of a queue of events; the home was scanned again", HumanCount(watches.overflows)),
        )?;
    }
    if let Some(every) = watches.home_scanned_every_seconds {
        line("scans", format!("all of the home every {every} s: on {} others may write unseen", home.filesystem))?;
    }
    let skipped = &status.skipped;
    if skipped.sockets + skipped.fifos + skipped.devices > 0 {
        let counts = format!("{} sockets, {} fifos, {} devices", skipped.sockets, skipped.fifos, skipped.devices);
        line("skipped", format!("{counts}{}", sample(&skipped.sample)))?;
    }
    if status.unreadable.count > 0 {
        line("unreadable", format!("{} entries", HumanCount(status.unreadable.count)))?;
        for entry in status.unreadable.sample.iter().take(SHOWN) {
            line("", format!("{}: {}", entry.path, entry.reason))?;
        }
    }
    if !status.unheld.is_zero() {
        line("not held", unheld(&status.unheld))?;
    }
    line("daemon", format!("hotspare {}, pid {}", node.program, node.pid))?;
    // As long as it is, it fits a line of its own.
    writeln!(page, "  id {}", node.id)?;
    peers(&mut page, &status.peers)?;
    Ok(page)
}

/// Writes `text` after `label`, in lines that fit [`COLUMNS`] where words allow it, those after the first below the text.
fn wrapped(page: &mut String, label: &str, text: &str) -> fmt::Result {
    let indent = label.chars().count();
    let mut at = indent;
    page.push_str(label);
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && at + 1 + width > COLUMNS {
            write!(page, "\n{:indent$}", "")?;
            at = indent;
        } else if index > 0 {
            page.push(' ');
            at += 1;
        }
        page.push_str(word);
        at += width;
    }
    page.push('\n');
    Ok(())
}

fn position(status: &Status) -> String {
    let Some(position) = &status.position else { return "none yet".to_owned() };
    let quality = status.quality.as_ref().map_or_else(String::new, |quality| {
        let reasons = if quality.reasons.is_empty() { "" } else { ": " };
        format!(", {}{reasons}{}{}", quality.quality, quality.reasons.join(", "), sample(&quality.deferred))
    });
    format!("{position}{quality}")
}

fn generations(status: &Status) -> String {
    let counts = &status.generations;
    let list = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{} {name}", HumanCount(*count))).collect::<Vec<_>>().join(", ")
    };
    match (counts.by_quality.is_empty(), counts.by_reason.is_empty()) {
        (true, _) => "none since the daemon started".to_owned(),
        (false, true) => list(&counts.by_quality),
        (false, false) => format!("{} (why: {})", list(&counts.by_quality), list(&counts.by_reason)),
    }
}

fn promotable(status: &Status) -> String {
    match (status.promotable.yes, status.promotable.why_not.as_slice()) {
        (true, _) => "yes".to_owned(),
        (false, []) => "no".to_owned(),
        (false, reasons) => format!("no: {}", reasons.join("; ")),
    }
}

fn pending(status: &Status) -> String {
    let pending = &status.pending;
    if pending.paths == 0 {
        return "nothing".to_owned();
    }
    let age = pending.oldest_age_seconds.map_or_else(String::new, |age| format!(", the oldest {}", seconds(age)));
    format!("{} paths{age}{}", HumanCount(pending.paths), sample(&pending.sample))
}

fn sample(paths: &[PathText]) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = paths.iter().take(SHOWN).map(ToString::to_string).collect();
    format!(": {}{}", shown.join(", "), if paths.len() > SHOWN { ", ..." } else { "" })
}

fn unheld(counts: &UnheldCounts) -> String {
    format!("owner {}, mode {}, xattr {}", counts.owner, counts.mode, counts.xattr)
}

fn peers(page: &mut String, peers: &[PeerStatus]) -> fmt::Result {
    let header = ["PEER", "ROLE", "STATE", "ACKED", "REVEALED", "LAG", "SENT"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(peers.iter().map(peer_row));
    if peers.is_empty() {
        return writeln!(page, "\nno peers: name them in the configuration or with `hotspare trust`");
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    writeln!(page)?;
    for (row, peer) in rows.iter().zip(std::iter::once(None).chain(peers.iter().map(Some))) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(page, "{}", cells.join("  ").trim_end())?;
        let Some(peer) = peer else { continue };
        if let Some(address) = &peer.address {
            wrapped(page, "  at ", address)?;
        }
        if let Some(trouble) = &peer.trouble {
            wrapped(page, "  ", trouble)?;
        }
        if !peer.unheld.is_zero() {
            wrapped(page, "  ", &format!("cannot hold: {}", unheld(&peer.unheld)))?;
        }
    }
    Ok(())
}

fn peer_row(peer: &PeerStatus) -> [String; 7] {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        peer.name.clone(),
        known(peer.role.map(|of| role(of).to_owned())),
        if peer.connected { state(peer.state).to_owned() } else { "not connected".to_owned() },
        known(peer.acked.clone()),
        known(peer.revealed.clone()),
        known(peer.lag_seconds.map(seconds)),
        HumanBytes(peer.bytes_sent).to_string(),
    ]
}

/// One line without ages, for a log: it stays the same as long as nothing happens.
pub(super) fn line(status: &Status) -> String {
    let node = &status.node;
    let mut parts = vec![format!("{} {}, {}", node.name, role(node.role), state(status.state))];
    parts.extend(status.position.clone().map(|position| format!("at {position}")));
    parts.extend(status.quality.as_ref().map(|quality| quality.quality.clone()));
    for peer in &status.peers {
        let doing = if peer.connected { state(peer.state) } else { "not connected" };
        let acked = peer.acked.as_ref().map_or_else(String::new, |acked| format!(", acked {acked}"));
        parts.push(format!("[{} {doing}{acked}]", peer.name));
    }
    parts.extend(status.alarms.iter().map(|alarm| format!("ALARM {alarm}")));
    parts.join(" ")
}

fn out_of(done: u64, total: Option<u64>, text: impl Fn(u64) -> String) -> String {
    total.map_or_else(|| text(done), |total| format!("{} of {}", text(done), text(total)))
}

fn seconds(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn role(role: RoleStatus) -> &'static str {
    match role {
        RoleStatus::Primary => "primary",
        RoleStatus::Standby => "standby",
        RoleStatus::Unassigned => "unassigned",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Recovering => "recovering",
        State::Scanning => "scanning",
        State::Streaming => "streaming",
        State::CatchingUp => "catching up",
        State::InitialSync => "initial sync",
        State::WaitingForPeer => "waiting for a peer",
        State::Paused => "PAUSED",
        State::Stuck => "STUCK",
        State::Held => "HELD BACK",
        State::Stopping => "stopping",
        State::Unknown => "in a state that this command does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::tests::sample as full;
    use crate::observe::status::{GenerationCounts, Pending, Promotable, Skipped, Unreadable, Watches};

    #[test]
    fn a_page_with_all_there_can_be_is_pinned() {
        insta::assert_snapshot!(render(&full()).unwrap());
    }

    #[test]
    fn a_page_when_all_is_well_says_nothing_of_trouble() {
        let mut status = full();
        (status.alarms, status.warnings) = (vec![], vec![]);
        (status.progress, status.quality) = (None, None);
        (status.skipped, status.unreadable) = (Skipped::default(), Unreadable::default());
        (status.watches, status.pending) = (Watches { placed: 9, ..Watches::default() }, Pending::default());
        (status.generations, status.promotable) =
            (GenerationCounts::default(), Promotable { yes: true, why_not: vec![] });
        status.peers[0].unheld = UnheldCounts::default();
        status.state = State::Streaming;
        insta::assert_snapshot!(render(&status).unwrap());
    }

    #[test]
    fn a_peer_that_is_gone_shows_why_and_not_its_old_state() {
        let mut status = full();
        status.peers[0].connected = false;
        status.peers[0].trouble = Some("connection refused".to_owned());
        let page = render(&status).unwrap();
        assert!(page.contains("not connected") && page.contains("\n  connection refused\n"), "{page}");
        assert!(line(&status).contains("[jenkins-b not connected, acked 1.18]"), "{}", line(&status));
        assert!(!page.contains("streaming"), "{page}");
        status.alarms = vec!["word ".repeat(40)];
        assert!(render(&status).unwrap().lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        status.peers.clear();
        assert!(render(&status).unwrap().contains("no peers"));
    }
}
