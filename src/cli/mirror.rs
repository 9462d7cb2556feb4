//! `mirror`: both sides in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::{Answer, Class, Failure};
use super::progress::Progress;
use super::{log, output};
use crate::capture::LARGE_FROM_BYTES;
use crate::config::LogFormat;
use crate::daemon::holder::Guards;
use crate::daemon::node::{Node, NodeOptions, PeerOptions};
use crate::daemon::window::WindowLimits;
use crate::fs::Root;
use crate::fs::state::create_directory;
use crate::net::authority::CertificateFiles;
use crate::net::identity::Identity;
use crate::observe::status::{State, Status};
use crate::reveal::marker;
use crate::thought::filter::{Filter, Preset};
use crate::thought::fuse::FuseOptions;
use crate::thought::timing::Windows;
use crate::thought::wire::message::Role;
use crate::watch::Options;
use crate::words::path::{RESERVED, RelPath};
use crate::words::position::NodeName;

const EXAMPLES: &str = "\
Examples:
  hotspare mirror ~/project /backup/project             keep a live copy; end with Ctrl-C
  hotspare mirror --once ~/project /backup/project      make both equal, then exit
  hotspare mirror --preset jenkins /var/jenkins_home /srv/copy
  hotspare mirror --exclude '*.tmp' --exclude /cache --include /cache/keep SRC DST

Exit status: 0 done; 2 SRC or DST will not do; 4 DST is neither empty nor a replica of SRC
(see --adopt), or too much would be deleted (see --release); 5 another failure.";

/// Keep a live copy of a directory, without configuration
///
/// Makes DST equal to SRC, then keeps it so, one whole generation at a time, until it is ended. Primary and standby are the ones
/// that `hotspare run` has, in one process, speaking QUIC with mutual TLS over loopback. Both directories get a .hotspare/ of
/// their own, which is not replicated.
///
/// DST must be empty, missing, or a replica of SRC from before; anything else is refused unless --adopt is given.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct MirrorArgs {
    /// The directory to replicate
    #[arg(value_name = "SRC")]
    pub(super) source: PathBuf,

    /// The directory that becomes its copy
    #[arg(value_name = "DST")]
    pub(super) destination: PathBuf,

    /// Exit when both are equal
    #[arg(long)]
    pub(super) once: bool,

    /// The filters to begin with
    #[arg(long, value_name = "PRESET", default_value = "none")]
    pub(super) preset: PresetArg,

    /// Replicate what matches this pattern (gitignore syntax) although the preset or --exclude leaves it out; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) include: Vec<String>,

    /// Leave out what matches this pattern (gitignore syntax); may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) exclude: Vec<String>,

    /// Take over a DST that has content of its own: what differs from SRC is put aside under DST/.hotspare first
    #[arg(long)]
    pub(super) adopt: bool,

    /// Delete whatever SRC has not; else a change that deletes more than three quarters of DST, and more than 1000 entries, is held back
    #[arg(long)]
    pub(super) release: bool,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Log what is done; twice: in detail
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

/// The filters to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PresetArg {
    /// Leave out what a Jenkins home can do without: caches, workspaces
    Jenkins,
    /// Replicate everything
    None,
}

pub(super) fn main(args: &MirrorArgs) -> anyhow::Result<Answer> {
    let level = match args.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    log::start(if args.quiet { "error" } else { level }, LogFormat::Text)?;
    let progress = if args.quiet { Progress::silent() } else { Progress::on_stderr() };
    replicate(args, progress)
}

/// The names of the two nodes in this process.
const SOURCE: &str = "source";
const COPY: &str = "copy";
/// How often what no watch tells of is scanned.
const POLL: Duration = Duration::from_secs(30);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn replicate(args: &MirrorArgs, progress: Progress) -> anyhow::Result<Answer> {
    let runtime = super::runtime()?;
    runtime.block_on(both(args, progress))
}

async fn both(args: &MirrorArgs, mut progress: Progress) -> anyhow::Result<Answer> {
    let (source, destination) = check(args)?;
    let state = destination.join(".hotspare").join("state");
    let preset = match args.preset {
        PresetArg::Jenkins => Preset::Jenkins,
        PresetArg::None => Preset::None,
    };
    let filter = Filter::new(preset, &args.exclude, &args.include)
        .map_err(|error| Failure::new(Class::Usage, error.to_string()))?;
    let states = [state.join("primary"), state.join("standby")];
    let mut ids = Vec::new();
    for state in &states {
        create_directory(state, 0o700)?;
        ids.push(Identity::load_or_create(state)?.id());
    }
    let names = [SOURCE, COPY].map(|name| NodeName::try_from(name.to_owned()));
    let [Ok(primary_name), Ok(standby_name)] = names else { unreachable!("both are names") };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let of_primary = NodeOptions {
        name: primary_name.clone(),
        home: source,
        state: states[0].clone(),
        role: Role::Primary,
        listen: loopback,
        peers: vec![PeerOptions { name: standby_name.clone(), addresses: Vec::new(), id: Some(ids[1]) }],
        certificates: CertificateFiles::default(),
        filter,
        windows: Windows::default(),
        large_from_bytes: LARGE_FROM_BYTES,
        window: WindowLimits::default(),
        watch: Options::default(),
        poll: POLL,
        scrub: None,
        bandwidth: None,
        scan_always: false,
        guards: Guards::default(),
        adopt: false,
        anew: true,
        moved: true,
    };
    let primary = Node::start(of_primary.clone()).await.map_err(super::node_failure)?;
    let address = primary.address().map(|address| address.to_string());
    let of_standby = NodeOptions {
        name: standby_name,
        home: destination,
        state: states[1].clone(),
        role: Role::Standby,
        peers: vec![PeerOptions { name: primary_name, addresses: address.into_iter().collect(), id: Some(ids[0]) }],
        guards: Guards { fuse: (!args.release).then(FuseOptions::default), reserve: None },
        adopt: args.adopt,
        ..of_primary
    };
    let standby = Node::start(of_standby).await.map_err(super::node_failure)?;
    let ended = tokio::select! {
        synced = follow(args, &primary, &standby, &mut progress) => synced,
        () = super::ended_by_signal() => Ok(()),
    };
    progress.finish(super::instant());
    let (standby, primary) = (standby.end().await, primary.end().await);
    standby.and(primary).map_err(super::node_failure)?;
    ended.map(|()| Answer::Yes)
}

/// Shows how far both are; with `--once`, until both are equal.
async fn follow(args: &MirrorArgs, primary: &Node, standby: &Node, progress: &mut Progress) -> anyhow::Result<()> {
    let marked = primary.mark();
    tokio::pin!(marked);
    let mut position = None;
    let mut is_live = false;
    let mut held = Held::default();
    loop {
        tokio::select! {
            at = &mut marked, if position.is_none() => position = Some(at),
            () = tokio::time::sleep(LOOK) => {}
        }
        primary.check().map_err(super::node_failure)?;
        if let Some(why) = standby.hopeless() {
            return Err(Failure::new(Class::Guard, why).hint(ADOPT_HINT).into());
        }
        let (here, there) = (primary.status(), standby.status());
        held.tell(args, [&here, &there])?;
        if let Some(snapshot) = there.progress.as_ref().or(here.progress.as_ref()) {
            progress.update(super::instant(), snapshot);
        }
        let shown = primary.revealed().first().and_then(|(_, revealed)| *revealed);
        let is_equal = matches!((position.flatten(), shown), (Some(wanted), Some(shown)) if shown >= wanted);
        if is_equal && !is_live {
            is_live = true;
            tell_losses(&here, &there);
            if args.once {
                return Ok(());
            }
            progress.finish(super::instant());
            if !args.quiet {
                output::complain("both are equal; the copy follows live (end with Ctrl-C)");
            }
        }
    }
}

/// What was said of what is held back.
#[derive(Default)]
struct Held(Vec<String>);

impl Held {
    /// Says what holds replication back, when that is news; with `--once` it is the end.
    fn tell(&mut self, args: &MirrorArgs, both: [&Status; 2]) -> anyhow::Result<()> {
        let held = both.into_iter().filter(|status| status.state == State::Held);
        let alarms: Vec<String> = held.flat_map(|status| status.alarms.iter().cloned()).collect();
        let Some(news) = alarms.iter().find(|alarm| !self.0.contains(alarm)) else {
            self.0 = alarms;
            return Ok(());
        };
        if args.once {
            return Err(Failure::new(Class::Guard, news.clone()).hint(RELEASE_HINT).into());
        }
        output::complain(&format!("held back: {news}\nhint: {RELEASE_HINT}"));
        self.0 = alarms;
        Ok(())
    }
}

const RELEASE_HINT: &str = "is SRC what it should be? If so much is to be deleted, run this again with --release; if the disk is full, make room";

/// Says once what the copy cannot hold and what was not read.
fn tell_losses(here: &Status, there: &Status) {
    if !there.unheld.is_zero() {
        output::complain(&format!(
            "note: without privilege, {} owners, {} modes and {} extended attributes could not be set on the copy",
            there.unheld.owner, there.unheld.mode, there.unheld.xattr
        ));
    }
    for unreadable in &here.unreadable.sample {
        output::complain(&format!("warning: not replicated: {}: {}", unreadable.path.0, unreadable.reason));
    }
    let skipped = here.skipped.sockets + here.skipped.fifos + here.skipped.devices;
    if skipped > 0 {
        output::complain(&format!("note: {skipped} sockets, pipes and devices are not replicated"));
    }
}

const ADOPT_HINT: &str =
    "name an empty directory, or give --adopt to take this one over: what differs is put aside first";

/// The real path of what is there, or will be: what is missing of it is taken as it is written.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let missing = absolute.strip_prefix(there).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let real = there.canonicalize()?;
    Ok(if missing.as_os_str().is_empty() { real } else { real.join(missing) })
}

/// What can be said of the two directories before anything is touched.
fn check(args: &MirrorArgs) -> anyhow::Result<(PathBuf, PathBuf)> {
    let usage = |message: String| Failure::new(Class::Usage, message);
    let source =
        args.source.canonicalize().map_err(|error| usage(format!("SRC {}: {error}", args.source.display())))?;
    if !source.is_dir() {
        return Err(usage(format!("SRC {} is not a directory", args.source.display())).into());
    }
    if source == Path::new("/") {
        return Err(usage("SRC is the root of the whole system; name the directory to be replicated".to_owned()).into());
    }
    let destination =
        real(&args.destination).map_err(|error| usage(format!("DST {}: {error}", args.destination.display())))?;
    if destination.exists() && !destination.is_dir() {
        return Err(usage(format!("DST {} is not a directory", args.destination.display())).into());
    }
    if source.starts_with(&destination) || destination.starts_with(&source) {
        let text = format!(
            "SRC {} and DST {} lie within each other: they are {} and {}",
            args.source.display(),
            args.destination.display(),
            source.display(),
            destination.display()
        );
        return Err(usage(text).hint("a directory cannot be copied into itself").into());
    }
    let from = Root::open(&source).and_then(|root| root.list(&RelPath::root()).map(|_| root));
    let from = from.map_err(|error| {
        usage(format!("SRC {}: {}", args.source.display(), error.reason()))
            .hint("run this as a user who may read all of it")
    })?;
    create_directory(&destination, 0o755)?;
    let guard = |message: String| Failure::new(Class::Guard, message).hint(ADOPT_HINT);
    let to = Root::open(&destination)?;
    match (marker::read(&from)?, marker::read(&to)?) {
        (Some(home), Some(replica)) if home == replica => {}
        (_, Some(_)) => {
            let text =
                format!("DST {} is a replica of another directory than {}", destination.display(), source.display());
            return Err(guard(text).hint("name another DST; or, to give it up, remove its .hotspare first").into());
        }
        (_, None) => {
            let names = to.list(&RelPath::root())?;
            let is_empty = names.iter().all(|(name, _)| [RESERVED, b"lost+found"].contains(&name.as_bytes()));
            if !is_empty && !args.adopt {
                let text =
                    format!("DST {} is not empty, and no replica of {}", destination.display(), source.display());
                return Err(guard(text).into());
            }
        }
    }
    Ok((source, destination))
}
