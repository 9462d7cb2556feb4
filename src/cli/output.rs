//! Writing to people. A closed pipe is not a panic, as it is with `println!`.

use std::io::{self, Write};

use serde::Serialize;

/// Writes text and a newline to stdout.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes a JSON document to stdout.
pub(super) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(say(&serde_json::to_string_pretty(value)?)?)
}

/// Writes a line to stderr. Where there is none, there is nobody to tell.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// True for the error of writing to a reader that went away.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
