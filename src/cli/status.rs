//! `status`: what the daemon says of itself, for people and for programs.

mod page;

use clap::Args;

use super::exit::Answer;
use super::output;
use super::target::DaemonArgs;

const EXAMPLES: &str = "\
Examples:
  hotspare status
  hotspare status -c standby.toml
  hotspare status --json | jq -r '.peers[] | [.name, .state, .lag_seconds] | @tsv'

Exit status: 0 answered, however bad the answer; 3 no daemon.";

/// Show how replication stands
///
/// Shows role and state of this node, what needs a person (first), the last generation and its quality, whether this node could
/// take over, what is not replicated and why, and every peer with its lag.
///
/// The fields of --json are stable: `version` rises when one changes its meaning or goes away, not when one is added. Ages and
/// lags are in seconds, sizes in bytes. In paths a backslash is written \\ and a byte that is no text \xNN.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// Print all of it as one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn main(args: &StatusArgs) -> anyhow::Result<Answer> {
    let status = args.daemon.find()?.connect().await?.status().await?;
    if args.json {
        output::say_json(&status)?;
    } else {
        output::say(&page::render(&status)?)?;
    }
    Ok(Answer::Yes)
}
