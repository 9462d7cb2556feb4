//! Writing to people. A closed pipe is not a panic, as it is with `println!`.

use std::io::{self, Write};

use serde::Serialize;

/// Writes text and a newline to stdout. A reader that went away (`hotspare status | head -1`) has seen what it wanted.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let text = text.trim_end_matches('\n');
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

/// Writes a JSON document to stdout.
pub(super) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(say(&serde_json::to_string_pretty(value)?)?)
}

/// Writes a line to stderr. Where there is none, there is nobody to tell.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
