//! `run`: this node's daemon.

use clap::Args;
use tokio::sync::mpsc;

use super::exit::{Answer, Class, Failure};
use super::log;
use super::reload::{self, Hangups};
use super::target::ConfigArgs;
use crate::config::{self, Settings};
use crate::control::{Request, Server};
use crate::daemon::holder::{Guards, Reserve};
use crate::daemon::node::{Node, NodeError, NodeOptions, PeerOptions, ScrubOptions};
use crate::daemon::roomless::Roomless;
use crate::daemon::unassigned::{Outcome, Unassigned};
use crate::daemon::window::WindowLimits;
use crate::fs::is_no_space;
use crate::fs::state::create_directory;
use crate::net::authority::CertificateFiles;
use crate::thought::filter::{Filter, Preset};
use crate::thought::timing::Windows;
use crate::thought::wire::message::Role;
use crate::watch::{self, Backend};

const EXAMPLES: &str = "\
Examples:
  hotspare run                              with /etc/hotspare/hotspare.toml
  hotspare run -c config/primary.toml
  HOTSPARE_NODE_NAME=$(hostname) hotspare run

Exit status: 0 ended by SIGTERM or SIGINT; 2 the configuration is not valid, or the home is missing; 4 the
home is not the one that this state belongs to; 5 another failure: the address is in use, another daemon
runs.";

/// Run this node's daemon
///
/// Replicates the configured home to the standbys, or holds a replica of it: which of the two is the node's role, not another
/// program. Stays in the foreground and logs to stderr; SIGTERM ends it in good order, and it may be killed at any time.
///
/// When the configuration file changes, or at SIGHUP, it is read again. [replicate] is then in force at once; what else was changed needs a restart, and
/// is named. One that is not valid changes nothing, and is told with file, line and reason.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The state directory, or a primary's home, was moved here on purpose, and is used nowhere else
    ///
    /// Both are bound to the machine, and the state of a primary to its home, so that a copy does not come up as the same node a
    /// second time: without this it runs, but has no role and replicates nothing, until `hotspare release`. Needed once.
    #[arg(long)]
    moved: bool,
}

pub(super) fn main(args: &RunArgs) -> anyhow::Result<Answer> {
    let settings = args.config.load()?;
    log::start("info", settings.observe.log_format)?;
    for key in &settings.dormant {
        tracing::warn!(key, "this key is accepted, but this version does not act upon it yet");
    }
    daemon(settings, args)
}

/// Runs the daemon until it is told to end.
fn daemon(settings: Settings, args: &RunArgs) -> anyhow::Result<Answer> {
    let runtime = super::runtime()?;
    runtime.block_on(async {
        let hangups = Hangups::listen();
        let options = NodeOptions { moved: args.moved, ..options(&settings)? };
        create_directory(&options.state, 0o700)?;
        let server = Server::bind(&settings.control_socket()).await?;
        let (requests, mut queue) = mpsc::channel(16);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut ending = stopped.clone();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(server.serve(requests, async move {
            ending.wait_for(|stop| *stop).await.ok();
        }));
        let ended = match start(options, &mut queue).await? {
            None => {
                drop(queue);
                stop.send(true).ok();
                Ok(())
            }
            Some(mut node) => {
                tracing::info!(id = %node.id(), address = ?node.address(), "running");
                let mut following = tokio::task::JoinSet::new();
                following.spawn(reload::follow(args.config.clone(), settings, node.handle(), hangups));
                let ended = node.serve(&mut queue, super::ended_by_signal()).await;
                following.shutdown().await;
                drop(queue);
                stop.send(true).ok();
                tracing::info!("ending");
                node.end().await.and(ended)
            }
        };
        serving.join_all().await;
        ended.map_err(super::node_failure)?;
        Ok(Answer::Yes)
    })
}

/// A node that runs; `None` if it was told to end before it could: while its state belonged elsewhere, or its state directory was full.
async fn start(mut options: NodeOptions, queue: &mut mpsc::Receiver<Request>) -> anyhow::Result<Option<Node>> {
    loop {
        match Node::start(options.clone()).await {
            Err(error @ NodeError::Moved { .. }) => {
                let unassigned = Unassigned::new(&options, &error.to_string());
                match unassigned.serve(queue, super::ended_by_signal()).await {
                    Outcome::Released => options.moved = true,
                    Outcome::Stopped => return Ok(None),
                }
            }
            Err(error) if is_no_space(&error) => {
                if !Roomless::new(&options, &error).serve(queue, super::ended_by_signal()).await {
                    return Ok(None);
                }
            }
            started => return Ok(Some(started.map_err(super::node_failure)?)),
        }
    }
}

/// The filter of the configuration.
pub(super) fn filter(settings: &Settings) -> anyhow::Result<Filter> {
    let preset = match settings.replicate.preset {
        config::Preset::Jenkins => Preset::Jenkins,
        config::Preset::None => Preset::None,
    };
    Ok(Filter::new(preset, &settings.replicate.exclude, &settings.replicate.include)
        .map_err(|error| Failure::new(Class::Usage, error.to_string()))?)
}

/// Where the certificates of the configuration are.
pub(super) fn certificates(settings: &Settings) -> CertificateFiles {
    CertificateFiles { ca: settings.tls.ca.clone(), shown: settings.tls.shown.clone() }
}

/// The configuration in the node's own terms.
fn options(settings: &Settings) -> anyhow::Result<NodeOptions> {
    let filter = filter(settings)?;
    let peers = settings.peers.iter().map(|peer| {
        let id = peer.id.as_ref().map(|id| id.as_str().parse()).transpose()?;
        let addresses = peer.addresses.iter().map(ToString::to_string).collect();
        Ok(PeerOptions { name: peer.name.clone(), addresses, id })
    });
    Ok(NodeOptions {
        name: settings.node.name.clone(),
        home: settings.node.home.clone(),
        state: settings.node.state.clone(),
        role: match settings.node.initial_role {
            Some(config::Role::Primary) => Role::Primary,
            Some(config::Role::Standby) | None => Role::Standby,
        },
        listen: settings.node.listen,
        peers: peers.collect::<anyhow::Result<_>>()?,
        certificates: certificates(settings),
        filter,
        windows: Windows { quiet: settings.batch.quiet, longest: settings.batch.longest },
        large_from_bytes: settings.batch.big_file_bytes,
        window: WindowLimits {
            memory_bytes: settings.window.memory_bytes,
            disk_bytes: settings.window.disk_bytes,
            linger: settings.window.linger,
        },
        watch: watch::Options {
            mailbox_capacity: settings.watch.queue,
            backend: match settings.watch.backend {
                config::Backend::Notify => Backend::Notify,
                config::Backend::Inotify => Backend::Inotify,
            },
            max_watches: settings.watch.max_watches,
        },
        poll: settings.watch.poll,
        scan_always: settings.watch.scan_always,
        guards: Guards { fuse: Some(settings.standby.fuse), reserve: settings.standby.reserve.map(reserve) },
        scrub: settings
            .scrub
            .bytes_per_second
            .map(|bytes_per_second| ScrubOptions { bytes_per_second, every: settings.scrub.every }),
        bandwidth: settings.standby.bandwidth,
        adopt: settings.standby.adopt,
        anew: false,
        moved: false,
    })
}

fn reserve(reserve: config::Reserve) -> Reserve {
    match reserve {
        config::Reserve::Bytes(bytes) => Reserve::Bytes(bytes),
        config::Reserve::Percent(percent) => Reserve::Percent(percent),
    }
}
