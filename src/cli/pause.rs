//! `pause` and `resume`.

use clap::Args;

use super::exit::Answer;
use super::target::DaemonArgs;

const PAUSE_EXAMPLES: &str = "\
Examples:
  hotspare pause                  before work on the network or a disk
  hotspare status                 says so, first of all
  hotspare resume

Exit status: 0 paused, also if it was; 3 no daemon.";

/// Pause replication of this node
///
/// On a primary: no generation is made and none is shipped until `hotspare resume`; changes are kept track of in bounded memory, their
/// age counts as lag, and `hotspare wait`, `verify` and `resync` refuse. On a standby: it leaves its primary and takes nothing; other
/// standbys are not concerned. What was under way is finished first.
///
/// It outlasts a restart of the daemon. A paused primary is still fit in the sense of `hotspare health`, a paused standby is not.
#[derive(Debug, Args)]
#[command(after_long_help = PAUSE_EXAMPLES)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
}

const RESUME_EXAMPLES: &str = "\
Examples:
  hotspare resume && hotspare wait

Exit status: 0 resumed, also if it was not paused; 3 no daemon.";

/// Go on after `hotspare pause`
///
/// What changed meanwhile becomes one generation; a standby goes on from where it stood, at the cost of what differs.
#[derive(Debug, Args)]
#[command(after_long_help = RESUME_EXAMPLES)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn pause(args: &PauseArgs) -> anyhow::Result<Answer> {
    args.daemon.find()?.connect().await?.pause().await?;
    Ok(Answer::Yes)
}

pub(super) async fn resume(args: &ResumeArgs) -> anyhow::Result<Answer> {
    args.daemon.find()?.connect().await?.resume().await?;
    Ok(Answer::Yes)
}
