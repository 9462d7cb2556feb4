//! The configuration of a running daemon, read again at SIGHUP, and when the file has changed.
//!
//! A file that changes is read when it has come to rest, for whoever writes it may not be done. One that is not valid changes nothing: it is said where
//! it is wrong, in the log and as an alarm, until it is mended.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::run;
use super::target::ConfigArgs;
use crate::config::Settings;
use crate::daemon::node::{Configured, Handle};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// SIGHUP, which ends no process that listens for it.
pub(super) struct Hangups(Option<Signal>);

impl Hangups {
    /// Listens from now on. Without signals there is still the file.
    pub(super) fn listen() -> Self {
        Self(signal(SignalKind::hangup()).ok())
    }

    async fn next(&mut self) -> Option<()> {
        match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// Follows the configuration `args`, of which `started` is in force, until it is cancelled.
pub(super) async fn follow(args: ConfigArgs, started: Settings, node: Handle, mut hangups: Hangups) {
    // It is read once more in the beginning, for it may have changed since.
    let (mut known, mut seen) = (None, None);
    let mut replicate = started.replicate.clone();
    loop {
        let is_asked = tokio::select! {
            Some(()) = hangups.next() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = text(args.path());
        let is_at_rest = now == seen;
        seen.clone_from(&now);
        if !is_asked && (!is_at_rest || now == known) {
            continue;
        }
        known = now;
        match args.load() {
            Ok(settings) => {
                let waiting = started.needs_restart(&settings);
                if !waiting.is_empty() {
                    tracing::warn!(
                        keys = waiting.join(", "),
                        "changed in the configuration, and in force only after a restart"
                    );
                }
                let mut trouble = None;
                if settings.replicate != replicate {
                    match run::filter(&settings) {
                        Ok(filter) => {
                            tracing::info!("[replicate] was changed, and is in force from now on");
                            node.refilter(filter).await;
                            replicate = settings.replicate;
                        }
                        Err(error) => trouble = Some(refuse(&error.to_string())),
                    }
                } else if is_asked {
                    tracing::info!("the configuration was read again; [replicate] is as it was");
                }
                node.configured(Configured { trouble, waiting });
            }
            Err(error) => {
                let trouble = Some(refuse(&crate::daemon::explain(&error)));
                node.configured(Configured { trouble, waiting: Vec::new() });
            }
        }
    }
}

fn refuse(why: &str) -> String {
    tracing::error!("the configuration was changed and is not taken; what was read before stays in force: {why}");
    format!("the configuration was changed and is not taken; what was read before stays in force: {why}")
}

/// What stands in the file; `None` if it cannot be read.
fn text(file: &Path) -> Option<Vec<u8>> {
    std::fs::read(file).ok()
}
