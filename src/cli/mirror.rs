//! `mirror`: both sides in one process.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::exit::{Answer, Class, Failure};
use super::log;
use super::progress::Progress;
use crate::config::LogFormat;

const EXAMPLES: &str = "\
Examples:
  hotspare mirror ~/project /backup/project             keep a live copy; end with Ctrl-C
  hotspare mirror --once ~/project /backup/project      make both equal, then exit
  hotspare mirror --preset jenkins /var/jenkins_home /srv/copy
  hotspare mirror --exclude '*.tmp' --exclude /cache --include /cache/keep SRC DST

Exit status: 0 done; 2 SRC or DST will not do; 4 DST is neither empty nor a replica of SRC
(see --adopt); 5 another failure.";

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

/// Replicates until both sides are equal (`--once`) or the process is told to end.
fn replicate(_args: &MirrorArgs, _progress: Progress) -> anyhow::Result<Answer> {
    Err(Failure::new(Class::Other, "mirror is not built yet").into())
}
