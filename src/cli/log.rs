//! Where the log goes: to stderr, in the form that is asked for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::exit::{Class, Failure};
use crate::config::LogFormat;

/// Starts logging; `HOTSPARE_LOG` goes before `default`, such as `info`.
pub(super) fn start(default: &str, format: LogFormat) -> Result<(), Failure> {
    let directives = std::env::var("HOTSPARE_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        Failure::new(Class::Usage, format!("HOTSPARE_LOG is {directives:?}: {error}")).hint("try HOTSPARE_LOG=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::new(Class::Other, format!("cannot start logging: {error}")))
}
