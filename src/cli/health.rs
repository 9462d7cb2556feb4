//! `health`: is this node fit for its role? For probes and keepalived.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::exit::{Answer, Class, Failure};
use super::output;
use super::target::DaemonArgs;
use crate::observe::health;
use crate::observe::status::{RoleStatus, Status};

const EXAMPLES: &str = "\
Examples:
  hotspare health
  hotspare health --max-lag 10s || echo 'do not fail over to this node'

  vrrp_script hotspare {                       # keepalived
      script \"/usr/local/bin/hotspare health --max-lag 30s\"
      interval 2
      timeout 5
  }

Exit status: 0 fit; 1 not fit, with the reasons on stderr; 3 the daemon does not answer.";

/// Say whether this node is fit for its role
///
/// Prints nothing when it is (but one line on a primary that is paused). A primary is fit while it keeps a history of its home: the home can be read and no alarm stops
/// replication. That no standby is connected does not make it unfit. A standby is fit when it holds a whole generation, its replica
/// is neither stuck nor changed by hand, and its lag is within --max-lag. A standby that is cut off counts its silence as lag: with
/// --max-lag it ceases to be fit so long after its primary was last heard of.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct HealthArgs {
    /// The lag from which on a standby is not fit, such as 10s or 5m [default: any lag will do]
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration)]
    max_lag: Option<Duration>,

    /// After so long without an answer the daemon counts as unreachable
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration, default_value = "3s")]
    timeout: Duration,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn main(args: &HealthArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    let asking = async {
        let status = daemon.connect().await?.status().await?;
        let mut reasons = health::reasons(&status, args.max_lag);
        reasons.extend(unreadable(&status).await);
        anyhow::Ok((reasons, status.paused_seconds.is_some()))
    };
    let late = || {
        let text = format!("the daemon did not answer within {}", humantime::format_duration(args.timeout));
        Failure::new(Class::Unreachable, text).hint("see the daemon's log: it may hang, or its home")
    };
    let (reasons, is_paused) = tokio::time::timeout(args.timeout, asking).await.map_err(|_| late())??;
    for reason in &reasons {
        output::complain(&format!("not fit: {reason}"));
    }
    if reasons.is_empty() && is_paused {
        output::say("fit, but paused: `hotspare resume` lets replication go on")?;
    }
    Ok(if reasons.is_empty() { Answer::Yes } else { Answer::No })
}

/// Why a primary's home cannot be read, if so. On a thread of its own, which a file system that hangs does not keep from being left.
async fn unreadable(status: &Status) -> Option<String> {
    if status.node.role != RoleStatus::Primary {
        return None;
    }
    let home = PathBuf::from(&status.home.path);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let looking = std::thread::Builder::new().spawn(move || {
        let read = std::fs::read_dir(&home).and_then(|mut names| names.next().transpose());
        reply.send(read.err().map(|error| format!("the home {} cannot be read: {error}", home.display()))).ok();
    });
    match looking {
        Ok(_) => answer.await.ok().flatten(),
        Err(error) => Some(format!("cannot look at the home: {error}")),
    }
}
