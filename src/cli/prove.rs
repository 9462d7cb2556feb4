//! `wait` and `verify`: is it there yet, and is it the same?

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::HumanCount;

use super::exit::{Answer, Class, Failure};
use super::output;
use super::target::DaemonArgs;
use crate::control::{Difference, PeerReport, VerifyReport, WaitOutcome, What};
use crate::words::path::RelPath;

const WAIT_EXAMPLES: &str = "\
Examples:
  hotspare wait                                   until every trusted standby has it all
  hotspare wait --standbys 1 --timeout 30s || echo 'not yet'

Exit status: 0 reached; 1 not reached in time; 3 no daemon.";

/// Wait until all that was written is acked
///
/// Returns when everything written to the home before the command was started is staged, verified and synced to stable storage
/// on the standbys. To be asked on the primary.
#[derive(Debug, Args)]
#[command(after_long_help = WAIT_EXAMPLES)]
pub(super) struct WaitArgs {
    /// How many standbys must have it [default: every one that is trusted]
    #[arg(long, value_name = "N")]
    standbys: Option<usize>,

    /// Give up after this long, such as 30s or 5m [default: never]
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration)]
    timeout: Option<Duration>,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn wait(args: &WaitArgs) -> anyhow::Result<Answer> {
    let client = args.daemon.find()?.connect().await?;
    let outcome = client.wait(args.standbys, args.timeout).await?;
    output::say(&wait_text(&outcome))?;
    Ok(if outcome.reached { Answer::Yes } else { Answer::No })
}

fn wait_text(outcome: &WaitOutcome) -> String {
    let reached = outcome.peers.iter().filter(|peer| peer.reached).count();
    let verdict = match (&outcome.position, outcome.reached) {
        (Some(position), true) => format!("acked at {position}"),
        (Some(position), false) => format!("not acked in time at {position}"),
        (None, _) => "not all in a generation in time".to_owned(),
    };
    let mut text = format!("{verdict}: {reached} of {} standbys have it all", outcome.peers.len());
    for peer in outcome.peers.iter().filter(|peer| !peer.reached) {
        let acked = peer.acked.as_deref().unwrap_or("nothing");
        write!(text, "\n  {} has acked {acked}", peer.name).unwrap_or_default();
    }
    text
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  hotspare verify                         the whole home
  hotspare verify jobs/app users          two directories of it
  hotspare wait && hotspare verify        while nothing is being written

Exit status: 0 equal; 1 different, or not every replica could be compared; 3 no daemon.";

/// Prove that the replicas equal the home
///
/// Reads all content on both sides, compares it with all metadata, and lists what differs. What changes while it is compared may
/// be listed although it is on its way. What a replica cannot hold (the owner, without privilege) is counted apart.
///
/// With --json the report is one document: {equal, compared_entries, peers: [{name, equal, trouble, position, differences:
/// [{path, kind, what, here, there}], differences_total, unheld}]}. In paths a backslash is written \\ and a byte that is no text \xNN.
#[derive(Debug, Args)]
#[command(after_long_help = VERIFY_EXAMPLES)]
pub(super) struct VerifyArgs {
    /// Only these and what is below them, relative to the home or absolute
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn verify(args: &VerifyArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    let paths = args.paths.iter().map(|path| within(daemon.home(), path)).collect::<Result<_, _>>()?;
    let report = daemon.connect().await?.verify(paths).await?;
    if args.json {
        output::say_json(&report)?;
    } else {
        output::say(&verify_text(&report).context("cannot write the report")?)?;
    }
    Ok(if report.equal { Answer::Yes } else { Answer::No })
}

/// A path of the command line as one inside the home.
pub(super) fn within(home: Option<&Path>, path: &Path) -> Result<RelPath, Failure> {
    let refuse = |why: &str| Failure::new(Class::Usage, format!("{} {why}", path.display()));
    let relative = match (path.is_absolute(), home) {
        (false, _) => path,
        (true, Some(home)) => {
            path.strip_prefix(home).map_err(|_| refuse(&format!("is not in the home {}", home.display())))?
        }
        (true, None) => return Err(refuse("is absolute, and with --socket the home is not known")),
    };
    let mut plain = PathBuf::new();
    for part in relative.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(refuse("has `..` in it")),
        }
    }
    RelPath::parse(plain.as_os_str().as_bytes()).map_err(|error| refuse(&format!("is no path in a home: {error}")))
}

fn verify_text(report: &VerifyReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for peer in &report.peers {
        peer_text(&mut text, peer)?;
    }
    let verdict = match (report.equal, report.peers.len()) {
        (true, _) => "equal",
        (false, 0) => "there is no replica to compare with",
        (false, _) => "NOT equal",
    };
    writeln!(text, "{verdict}: {} entries compared", HumanCount(report.compared_entries))?;
    Ok(text)
}

fn peer_text(text: &mut String, peer: &PeerReport) -> std::fmt::Result {
    let position = peer.position.as_deref().map_or_else(String::new, |position| format!(" at {position}"));
    match (&peer.trouble, peer.equal) {
        (Some(trouble), _) => writeln!(text, "{}: not compared: {trouble}", peer.name)?,
        (None, true) => writeln!(text, "{}: equal{position}", peer.name)?,
        (None, false) => {
            writeln!(text, "{}: {} differences{position}", peer.name, HumanCount(peer.differences_total))?;
        }
    }
    for Difference { path, what, here, there, .. } in &peer.differences {
        let sides = match (here, there) {
            (Some(here), Some(there)) => format!(" (home {here}, replica {there})"),
            (Some(side), None) | (None, Some(side)) => format!(" ({side})"),
            (None, None) => String::new(),
        };
        writeln!(text, "  {:8} {path}{sides}", what_text(*what))?;
    }
    let listed = u64::try_from(peer.differences.len()).unwrap_or(u64::MAX);
    if peer.differences_total > listed {
        writeln!(text, "  ... and {} more", HumanCount(peer.differences_total - listed))?;
    }
    if !peer.unheld.is_zero() {
        let unheld = &peer.unheld;
        let counts = format!("owner {}, mode {}, xattr {}", unheld.owner, unheld.mode, unheld.xattr);
        writeln!(text, "  not counted, because this replica cannot hold it: {counts}")?;
    }
    Ok(())
}

fn what_text(what: What) -> &'static str {
    match what {
        What::Missing => "missing",
        What::Extra => "extra",
        What::Kind => "kind",
        What::Content | What::Size => "content",
        What::Target => "target",
        What::Mode => "mode",
        What::Owner => "owner",
        What::Mtime => "mtime",
        What::Xattrs => "xattrs",
        What::Links => "links",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PeerWait;
    use crate::observe::status::UnheldCounts;

    #[test]
    fn a_path_is_taken_relative_to_the_home_and_never_out_of_it() {
        let take = |path: &str| within(Some(Path::new("/srv/home")), Path::new(path)).map(|path| path.to_string());
        for (path, expected) in [
            ("jobs/app/", Some("jobs/app")),
            ("./jobs//app", Some("jobs/app")),
            ("/srv/home/jobs", Some("jobs")),
            ("/srv/home", Some(".")),
            (".", Some(".")),
            ("/srv/other", None),
            ("jobs/../../x", None),
        ] {
            assert_eq!(take(path).ok().as_deref(), expected, "{path}");
        }
        assert!(within(None, Path::new("/srv/home")).is_err());
    }

    #[test]
    fn a_report_lists_differences_the_rest_and_what_is_not_held() {
        let difference = |path: &[u8], what, here: Option<&str>, there: Option<&str>| Difference {
            path: RelPath::parse(path).unwrap().into(),
            kind: None,
            what,
            here: here.map(str::to_owned),
            there: there.map(str::to_owned),
        };
        let peer = |name: &str, equal, trouble: Option<&str>| PeerReport {
            name: name.to_owned(),
            equal,
            trouble: trouble.map(str::to_owned),
            position: Some("1.7".to_owned()),
            differences: vec![],
            differences_total: 0,
            unheld: UnheldCounts::default(),
        };
        let different = PeerReport {
            differences: vec![
                difference(b"a", What::Mode, Some("0644"), Some("0600")),
                difference(b"b\nc", What::Missing, None, None),
            ],
            differences_total: 1234,
            unheld: UnheldCounts { owner: 3, ..UnheldCounts::default() },
            ..peer("c", false, None)
        };
        let peers = vec![peer("b", true, None), different, peer("d", false, Some("not connected"))];
        let report = VerifyReport { equal: false, compared_entries: 12345, peers };
        insta::assert_snapshot!(verify_text(&report).unwrap());
        let none = VerifyReport { equal: false, compared_entries: 0, peers: vec![] };
        assert!(verify_text(&none).unwrap().starts_with("there is no replica to compare with"));
    }

    #[test]
    fn who_is_not_there_yet_is_named() {
        let peer = |name: &str, reached| PeerWait { name: name.to_owned(), acked: Some("1.6".to_owned()), reached };
        let outcome = WaitOutcome {
            reached: false,
            position: Some("1.7".to_owned()),
            peers: vec![peer("b", true), peer("c", false)],
        };
        let expected = "not acked in time at 1.7: 1 of 2 standbys have it all\n  c has acked 1.6";
        assert_eq!(wait_text(&outcome), expected);
        let outcome = WaitOutcome { position: None, peers: vec![peer("c", false)], ..outcome };
        let expected = "not all in a generation in time: 0 of 1 standbys have it all\n  c has acked 1.6";
        assert_eq!(wait_text(&outcome), expected);
    }
}
