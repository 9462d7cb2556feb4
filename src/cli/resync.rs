//! `resync`: compare and mend now.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::HumanCount;

use super::exit::Answer;
use super::output;
use super::progress::Progress;
use super::prove::within;
use super::target::DaemonArgs;
use crate::control::{Client, Difference, PathKind, ResyncReport, What};

const EXAMPLES: &str = "\
Examples:
  hotspare resync --dry-run                  what would be changed where
  hotspare resync                            by size and time
  hotspare resync --checksum jobs/app        reads all content below one directory

  Itemised as rsync does it, on the left whose copy is changed:
  jenkins-b  >f+++++++++ jobs/app/config.xml        is missing there
  jenkins-b  >fcs.t..... jobs/app/nextBuildNumber   content (c), size (s), time (t) differ
  jenkins-b  .d...p..... jobs/app                   only permissions (p), owner (o) or attributes (x)
  jenkins-b  *deleting   jobs/app/stray             is not in the home

Exit status: 0 nothing differed, or all is mended; 1 with --dry-run: something differs; or a standby could
not be compared or mended; 3 no daemon; 4 this node is a standby.";

/// Compare both sides and repair now
///
/// Looks again at the home for what no event told of, and has every connected standby compare its own disk with its index. What was
/// changed in a replica by hand, or is damaged, is put aside there (.hotspare/bundles) and repaired from the home by an ordinary
/// generation: the replica goes from one whole state to another.
///
/// Without --checksum size, time and attributes are compared, as rsync does; a change that left both alone is not found. To be asked
/// on the primary.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ResyncArgs {
    /// Only these and what is below them, relative to the home or absolute
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Read and compare all content on both sides
    #[arg(long)]
    checksum: bool,

    /// Change nothing; list what would be
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// How often progress is asked for.
const LOOK: Duration = Duration::from_millis(300);

pub(super) async fn main(args: &ResyncArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    let paths = args.paths.iter().map(|path| within(daemon.home(), path)).collect::<Result<_, _>>()?;
    let client = daemon.connect().await?;
    let mut progress = Progress::on_stderr();
    let report = {
        let work = client.resync(paths, args.checksum, args.dry_run);
        tokio::pin!(work);
        loop {
            tokio::select! {
                report = &mut work => break report,
                () = tokio::time::sleep(LOOK) => show(&client, &mut progress).await,
            }
        }
    };
    progress.finish(super::instant());
    let report = report?;
    output::say(&text(&report))?;
    Ok(if is_well(&report) { Answer::Yes } else { Answer::No })
}

/// What cannot be asked is not shown: the work itself tells of trouble.
async fn show(client: &Client, progress: &mut Progress) {
    if let Ok(status) = client.status().await
        && let Some(snapshot) = &status.progress
    {
        progress.update(super::instant(), snapshot);
    }
}

fn is_well(report: &ResyncReport) -> bool {
    let differs = report.home_total > 0 || report.peers.iter().any(|peer| peer.differences_total > 0);
    let has_trouble = report.peers.is_empty() || report.peers.iter().any(|peer| peer.trouble.is_some());
    !(has_trouble || report.dry_run && differs)
}

fn text(report: &ResyncReport) -> String {
    let mut lines = items("home", &report.home);
    let more = |name: &str, total: u64, listed: usize| {
        let left = total.saturating_sub(listed as u64);
        (left > 0).then(|| format!("{name}  ... and {} more differences", HumanCount(left)))
    };
    lines.extend(more("home", report.home_total, report.home.len()));
    for peer in &report.peers {
        lines.extend(items(&peer.name, &peer.differences));
        lines.extend(more(&peer.name, peer.differences_total, peer.differences.len()));
    }
    let done = if report.dry_run { "would be captured" } else { "captured" };
    if report.home_total > 0 {
        lines.push(format!("home: {} differences {done}", HumanCount(report.home_total)));
    }
    for peer in &report.peers {
        lines.push(match (&peer.trouble, peer.differences_total) {
            (Some(trouble), _) => format!("{}: {trouble}", peer.name),
            (None, 0) => format!("{}: nothing to mend", peer.name),
            (None, total) if report.dry_run => {
                format!("{}: {} differences would be mended", peer.name, HumanCount(total))
            }
            (None, _) => format!("{}: {} paths mended", peer.name, HumanCount(peer.mended)),
        });
    }
    if report.peers.is_empty() {
        lines.push("there is no standby to compare with".to_owned());
    }
    lines.join("\n")
}

/// One line for each path; its differences stand together.
fn items(name: &str, differences: &[Difference]) -> Vec<String> {
    differences
        .chunk_by(|a, b| a.path == b.path)
        .filter_map(|same| same.first().map(|first| format!("{name}  {} {}", item(same), first.path)))
        .collect()
}

/// Eleven characters, as `rsync --itemize-changes` writes them.
fn item(same: &[Difference]) -> String {
    let has = |what| same.iter().any(|difference| difference.what == what);
    let kind = match same.first().and_then(|first| first.kind) {
        Some(PathKind::File) => 'f',
        Some(PathKind::Directory) => 'd',
        Some(PathKind::Symlink) => 'L',
        None => 'S',
    };
    let is_new = has(What::Missing) || has(What::Kind);
    if has(What::Extra) {
        return "*deleting  ".to_owned();
    }
    let is_sent = is_new || has(What::Content) || has(What::Size);
    let update = match (kind, is_sent || has(What::Target)) {
        ('f', true) => '>',
        (_, true) => 'c',
        _ if has(What::Links) => 'h',
        _ => '.',
    };
    if is_new {
        return format!("{update}{kind}+++++++++");
    }
    let flag = |is_set, letter| if is_set { letter } else { '.' };
    let flags = [
        flag(is_sent || has(What::Target), 'c'),
        flag(has(What::Size), 's'),
        flag(has(What::Mtime), 't'),
        flag(has(What::Mode), 'p'),
        flag(has(What::Owner), 'o'),
        '.',
        '.',
        '.',
        flag(has(What::Xattrs), 'x'),
    ];
    format!("{update}{kind}{}", flags.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ResyncedPeer;
    use crate::words::path::RelPath;

    #[test]
    fn differences_are_itemised_as_rsync_does_it() {
        let found = |path: &str, kind, what| Difference {
            path: RelPath::parse(path.as_bytes()).unwrap().into(),
            kind,
            what,
            here: None,
            there: None,
        };
        let (file, directory) = (Some(PathKind::File), Some(PathKind::Directory));
        let differences = vec![
            found("a", file, What::Mtime),
            found("a", file, What::Size),
            found("b", file, What::Missing),
            found("c", directory, What::Missing),
            found("d", directory, What::Mode),
            found("e", file, What::Extra),
            found("f", Some(PathKind::Symlink), What::Target),
            found("g", file, What::Content),
            found("h", file, What::Links),
        ];
        let peer = ResyncedPeer { name: "b".into(), differences, differences_total: 9, ..ResyncedPeer::default() };
        let report = ResyncReport { dry_run: true, home: vec![], home_total: 0, peers: vec![peer] };
        let expected = "\
            b  >fcst...... a\nb  >f+++++++++ b\nb  cd+++++++++ c\nb  .d...p..... d\nb  *deleting   e\n\
            b  cLc........ f\nb  >fc........ g\nb  hf......... h\nb: 9 differences would be mended";
        assert_eq!(text(&report), expected);
        assert!(!is_well(&report));
    }

    #[test]
    fn what_could_not_be_mended_is_said() {
        let peer = ResyncedPeer { name: "b".into(), trouble: Some("it is not connected".into()), ..Default::default() };
        let report = ResyncReport { dry_run: false, home: vec![], home_total: 0, peers: vec![peer] };
        assert_eq!(text(&report), "b: it is not connected");
        assert!(!is_well(&report));
        let well = ResyncedPeer { name: "b".into(), mended: 2, differences_total: 3, ..Default::default() };
        let report = ResyncReport { peers: vec![well], ..report };
        assert_eq!(text(&report), "b  ... and 3 more differences\nb: 2 paths mended");
        assert!(is_well(&report));
    }
}
