//! `hold`: a replica that stands still while a command reads it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::exit::{Answer, Class, Failure};
use super::output;
use super::target::DaemonArgs;

const EXAMPLES: &str = "\
Examples:
  hotspare hold -- tar -C /var/jenkins_home --exclude ./.hotspare -cf /backup/jenkins.tar .
  hotspare hold --max 4h -- restic backup --exclude .hotspare /var/jenkins_home
  hotspare hold -- sh -c 'lvcreate -s -L 10G -n snap vg/home'   while it takes a snapshot

Exit status: that of CMD (128 and the signal's number if one ended it); 3 no daemon; 4 refused, or the
replica was let go before CMD ended with 0; 5 CMD cannot be started.";

/// Keep the replica still while a command reads it
///
/// To be asked on a standby. While CMD runs, the replica shows one whole generation and nothing in it changes. Acks go on meanwhile: up to
/// 1000 generations, 100 000 operations and 4 GiB, and the one that exceeds that. Then they stop until the replica is let go, `hotspare
/// wait` on the primary waits, and the lag grows. Nothing is lost: what was acked is revealed in order then, and the rest follows.
///
/// The replica is let go when CMD ends, when this command dies however it may, after --max, and when the daemon ends. CMD is not
/// ended in the last two cases: if it succeeds all the same, exit status 4 says that it may have read two generations.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct HoldArgs {
    /// Let the replica go after this long, even if CMD still runs
    #[arg(long, value_name = "DURATION", value_parser = super::parse_duration, default_value = "1h")]
    max: Duration,

    /// What to run meanwhile, with its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn main(args: &HoldArgs) -> anyhow::Result<Answer> {
    let mut held = args.daemon.find()?.connect().await?.hold(args.max).await?;
    let (program, rest) = args.command.split_first().ok_or_else(|| Failure::new(Class::Usage, "no command"))?;
    let child = std::process::Command::new(program)
        .args(rest)
        .spawn()
        .map_err(|error| Failure::new(Class::Other, format!("cannot start {}: {error}", program.display())))?;
    let pid = Pid::from_child(&child);
    let mut ended = wait(child)?;
    let mut lost = None;
    let status = loop {
        tokio::select! {
            // Whether it was held comes first: at the command's end it is too late to hear of it.
            biased;
            why = held.ended(), if lost.is_none() => {
                output::complain(&format!("warning: the replica is not held any more: {why}"));
                lost = Some(why);
            }
            status = &mut ended => break status,
            // Ctrl-C reaches the command by the terminal; what is sent to this process alone is passed on.
            signal = super::signalled() => {
                if signal == Signal::TERM {
                    kill_process(pid, signal).ok();
                }
            }
        }
    };
    let status = status??;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match lost {
        Some(why) if code == 0 => {
            let text = format!("the replica was not held until the command ended: {why}");
            Err(Failure::new(Class::Guard, text).hint("what it read may be of two generations; run it again").into())
        }
        _ => Ok(Answer::Code(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

/// Waits for its end on a thread: this one talks with the daemon meanwhile.
fn wait(mut child: Child) -> std::io::Result<oneshot::Receiver<std::io::Result<ExitStatus>>> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().spawn(move || done.send(child.wait()).ok())?;
    Ok(ended)
}
