//! Which configuration is meant, and which daemon.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{ConfigError, Settings};
use crate::control::{Client, ClientError};

/// The configuration file, named or not.
#[derive(Clone, Debug, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "HOTSPARE_CONFIG", hide_env_values = true)]
    #[arg(default_value = Settings::DEFAULT_FILE)]
    config: PathBuf,
}

impl ConfigArgs {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.config
    }

    /// Reads it, with what the environment replaces.
    pub(super) fn load(&self) -> Result<Settings, ConfigError> {
        let overrides: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("HOTSPARE_"))
            .collect();
        Settings::load(&self.config, &overrides)
    }
}

/// A daemon, by its configuration or its socket.
#[derive(Debug, Args)]
pub(super) struct DaemonArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The daemon's control socket; no configuration is read then
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Where a daemon listens, and what of its configuration is known.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) socket: PathBuf,
    /// `None` where the socket was named.
    pub(super) settings: Option<Settings>,
}

impl DaemonArgs {
    /// Finds out where it listens.
    pub(super) fn find(&self) -> Result<Daemon, ConfigError> {
        match &self.socket {
            Some(socket) => Ok(Daemon { socket: socket.clone(), settings: None }),
            None => {
                let settings = self.config.load()?;
                Ok(Daemon { socket: settings.control_socket(), settings: Some(settings) })
            }
        }
    }
}

impl Daemon {
    /// Connects to it.
    pub(super) async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket).await
    }

    /// The home, where the configuration is known.
    pub(super) fn home(&self) -> Option<&Path> {
        self.settings.as_ref().map(|settings| settings.node.home.as_path())
    }
}
