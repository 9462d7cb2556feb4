//! `run`: this node's daemon.

use clap::Args;

use super::exit::{Answer, Class, Failure};
use super::log;
use super::target::ConfigArgs;
use crate::config::Settings;

const EXAMPLES: &str = "\
Examples:
  hotspare run                              with /etc/hotspare/hotspare.toml
  hotspare run -c config/primary.toml
  HOTSPARE_NODE_NAME=$(hostname) hotspare run

Exit status: 0 ended by SIGTERM or SIGINT; 2 the configuration is not valid, or the home is missing; 4 the
home is not the one that this state belongs to; 5 another failure: the address is in use, another daemon
runs.";

/// Run this node's daemon
///
/// Replicates the configured home to the standbys, or holds a replica of it: which of the two is the node's role, not another
/// program. Stays in the foreground and logs to stderr; SIGTERM ends it in good order, and it may be killed at any time.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn main(args: &RunArgs) -> anyhow::Result<Answer> {
    let settings = args.config.load()?;
    log::start("info", settings.observe.log_format)?;
    for key in &settings.dormant {
        tracing::warn!(key, "this key is accepted, but this version does not act upon it yet");
    }
    daemon(settings)
}

/// Runs the daemon until it is told to end.
fn daemon(_settings: Settings) -> anyhow::Result<Answer> {
    Err(Failure::new(Class::Other, "run is not built yet").into())
}
