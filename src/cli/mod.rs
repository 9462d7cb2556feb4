//! The command line: one file for each family of commands. Here alone is printed, is the environment read, and are errors turned
//! into exit codes ([`exit`]).

mod completions;
mod doctor;
pub mod exit;
mod health;
mod hold;
mod identity;
mod log;
mod mirror;
mod output;
mod pause;
pub mod progress;
mod prove;
mod release;
mod reload;
mod resync;
mod run;
mod status;
mod target;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

use crate::daemon::node::NodeError;
use exit::Answer;

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  the answer is no: it differs, it was not reached in time
  2  usage or configuration
  3  the daemon or a peer cannot be reached
  4  refused by a guard
  5  another failure

Environment:
  HOTSPARE_CONFIG            the configuration file, where -c names none
  HOTSPARE_SECTION_KEY       replaces one value of it: HOTSPARE_NODE_NAME, HOTSPARE_BATCH_QUIET
  HOTSPARE_LOG               what is logged to stderr: error, warn, info, debug, trace

Files:
  /etc/hotspare/hotspare.toml    the configuration
  /var/lib/hotspare              the node's key, reign, index and control socket (node.state)
  HOME/.hotspare                 journal and stage, on the file system of the home; never replicated";

/// Keeps a live, crash-consistent copy of a directory on standby nodes
///
/// hotspare replicates a directory tree, a Jenkins home above all, as a sequence of generations: atomic units of change, each
/// taken at one instant. What a standby shows is always one whole generation, never half of one, so that it can take over
/// with a state that really existed.
///
/// Try it with `hotspare mirror`, which needs no configuration. For two nodes, write a configuration on each, exchange their ids
/// with `hotspare id` and start `hotspare run`.
#[derive(Debug, Parser)]
#[command(name = "hotspare", version, after_long_help = EXIT_STATUS, max_term_width = 100, subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mirror(mirror::MirrorArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Health(health::HealthArgs),
    Wait(prove::WaitArgs),
    Verify(prove::VerifyArgs),
    Resync(resync::ResyncArgs),
    Hold(hold::HoldArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Doctor(doctor::DoctorArgs),
    Release(release::ReleaseArgs),
    Id(identity::IdArgs),
    Trust(identity::TrustArgs),
    Untrust(identity::UntrustArgs),
    Rotate(identity::RotateArgs),
    Completions(completions::CompletionsArgs),
}

/// The whole command line as clap knows it: for completions, and for the test that pins its help.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command line, the program's name first, and returns its exit code. Everything about an error has been said by then.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    exit::code(dispatch(cli.command))
}

fn dispatch(command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Mirror(args) => mirror::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Status(args) => brief(status::main(&args)),
        Command::Health(args) => brief(health::main(&args)),
        Command::Wait(args) => brief(prove::wait(&args)),
        Command::Verify(args) => brief(prove::verify(&args)),
        Command::Resync(args) => brief(resync::main(&args)),
        Command::Hold(args) => brief(hold::main(&args)),
        Command::Pause(args) => brief(pause::pause(&args)),
        Command::Resume(args) => brief(pause::resume(&args)),
        Command::Doctor(args) => doctor::main(&args),
        Command::Release(args) => brief(release::main(&args)),
        Command::Id(args) => identity::id(&args),
        Command::Trust(args) => brief(identity::trust(&args)),
        Command::Untrust(args) => brief(identity::untrust(&args)),
        Command::Rotate(args) => brief(identity::rotate(&args)),
        Command::Completions(args) => completions::main(&args),
    }
}

/// Runs a command that does little itself: asking the daemon, on this thread.
fn brief(command: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(command)
}

/// The runtime of long-lived commands: two workers are enough, files are handled by threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Done when SIGTERM or SIGINT comes.
async fn ended_by_signal() {
    signalled().await;
}

/// The next SIGTERM or SIGINT.
async fn signalled() -> rustix::process::Signal {
    use rustix::process::Signal;
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => Signal::TERM,
        _ = interrupt.recv() => Signal::INT,
    }
}

/// What a node's failure means for the exit code, and what to do about it.
fn node_failure(error: NodeError) -> anyhow::Error {
    let (class, hint) = match &error {
        NodeError::Home { .. } => (exit::Class::Usage, Some("set [node] home to the directory to be replicated")),
        NodeError::Unreadable { .. } => {
            (exit::Class::Usage, Some("run this as a user who may read all of the home: that of Jenkins, or root"))
        }
        NodeError::Certificates(_) => (exit::Class::Usage, Some("`hotspare doctor` checks the files of [tls]")),
        NodeError::PeerId(_) => (exit::Class::Usage, Some("an id is printed by `hotspare id` on the peer")),
        NodeError::OtherHome { .. } => {
            (exit::Class::Guard, Some("use the state directory of this home, or an empty one to begin anew"))
        }
        NodeError::Moved { .. } => (
            exit::Class::Guard,
            Some(
                "give this node an empty state directory; or, if it was moved and the old place is gone, run once with --moved",
            ),
        ),
        NodeError::Hopeless(_) | NodeError::Unmarked { .. } => (exit::Class::Guard, None),
        _ => return error.into(),
    };
    let failure = exit::Failure::new(class, crate::daemon::explain(&error));
    match hint {
        Some(hint) => failure.hint(hint).into(),
        None => failure.into(),
    }
}

/// A duration of the command line.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 30s or 5m"))
}

/// The monotonic time, for progress.
#[expect(clippy::disallowed_methods, reason = "progress is shown in time")]
fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
