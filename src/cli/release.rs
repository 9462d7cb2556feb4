//! `release`: a person's word.

use clap::Args;

use super::exit::Answer;
use super::output;
use super::target::DaemonArgs;

const EXAMPLES: &str = "\
Examples:
  hotspare status                what is held back, with numbers and paths
  hotspare release               it is meant so
  hotspare release && hotspare wait

Exit status: 0 let through; 2 usage or configuration; 3 no daemon; 4 nothing is held back.";

/// Let through what a guard holds back
///
/// A generation that would delete more than the fuse allows ([standby] fuse) waits on the standby for this word, and all later ones
/// wait behind it. On the standby it lets through that one generation; the next that deletes too much waits again. On the primary it
/// does the same on every standby that is connected, and lets a home that was emptied, or what is no longer mounted inside it, be
/// replicated as it is now. A node that has no role, because its state directory was last used elsewhere, takes it up again.
///
/// Nothing brings back what is deleted then. If it was no intention, put it back on the primary instead.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn main(args: &ReleaseArgs) -> anyhow::Result<Answer> {
    let outcome = args.daemon.find()?.connect().await?.release().await?;
    for text in &outcome.released {
        output::say(&format!("released: {text}"))?;
    }
    Ok(Answer::Yes)
}
