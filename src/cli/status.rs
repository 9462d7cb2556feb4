//! `status`: what the daemon says of itself, for people and for programs.

mod page;

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use clap::Args;

use super::exit::Answer;
use super::output;
use super::target::{Daemon, DaemonArgs};
use crate::control::ClientError;
use crate::observe::status::Status;

const EXAMPLES: &str = "\
Examples:
  hotspare status
  hotspare status --watch
  hotspare status -c standby.toml
  hotspare status --json | jq -r '.peers[] | [.name, .state, .lag_seconds] | @tsv'

Exit status: 0 answered, however bad the answer; 3 no daemon.";

/// How often --watch looks.
const LOOK: Duration = Duration::from_secs(1);
/// Clears the screen and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

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

    /// Go on until Ctrl-C: redraw every second on a terminal, elsewhere write one line when something changes
    ///
    /// With --json a document on a line of its own every second. A daemon that ends is waited for.
    #[arg(short, long)]
    watch: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn main(args: &StatusArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    if args.watch {
        return tokio::select! {
            watched = watch(args, &daemon) => watched,
            () = super::ended_by_signal() => Ok(Answer::Yes),
        };
    }
    let status = ask(&daemon).await?;
    if args.json {
        output::say_json(&status)?;
    } else {
        output::say(&page::render(&status)?)?;
    }
    Ok(Answer::Yes)
}

async fn ask(daemon: &Daemon) -> Result<Status, ClientError> {
    daemon.connect().await?.status().await
}

async fn watch(args: &StatusArgs, daemon: &Daemon) -> anyhow::Result<Answer> {
    let is_drawn = stdout().is_terminal() && !args.json;
    let mut last = String::new();
    loop {
        let asked = ask(daemon).await;
        let text = match asked {
            Ok(status) if args.json => serde_json::to_string(&status)?,
            Ok(status) if is_drawn => page::render(&status)?,
            Ok(status) => page::line(&status),
            // What a person must mend does not mend itself.
            Err(error @ ClientError::Answer { .. }) => return Err(error.into()),
            Err(error) if args.json => serde_json::json!({ "error": error.to_string() }).to_string(),
            Err(error) => error.to_string(),
        };
        if is_drawn {
            output::say(&format!("{CLEAR}{text}"))?;
        } else if args.json || text != last {
            output::say(&text)?;
            last = text;
        }
        tokio::time::sleep(LOOK).await;
    }
}
