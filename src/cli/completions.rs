//! `completions`: what a shell needs to complete our command lines.

use clap::Args;
use clap_complete::Shell;

use super::exit::Answer;
use super::output;

const EXAMPLES: &str = "\
Examples:
  hotspare completions bash > /etc/bash_completion.d/hotspare
  hotspare completions zsh  > ~/.zfunc/_hotspare";

/// Print a completion script for a shell
///
/// Writes to stdout the script that lets a shell complete hotspare's commands and options.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn main(args: &CompletionsArgs) -> anyhow::Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "hotspare", &mut script);
    output::say(&String::from_utf8(script)?)?;
    Ok(Answer::Yes)
}
