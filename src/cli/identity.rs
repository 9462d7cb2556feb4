//! `id`, `trust`, `untrust`, `rotate`: who this node is, and whom it believes.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use rustls_pki_types::UnixTime;

use super::exit::{Answer, Class, Failure};
use super::target::{ConfigArgs, DaemonArgs};
use super::{output, run};
use crate::config::PeerId;
use crate::control::{ClientError, Rotation};
use crate::daemon::memory::{trust_in, untrust_in};
use crate::fs::state::create_directory;
use crate::net::authority::CertificateFiles;
use crate::net::identity::Identity;
use crate::words::position::NodeName;

const ID_EXAMPLES: &str = "\
Examples:
  hotspare id                        the id of the node in /etc/hotspare/hotspare.toml
  hotspare id -c standby.toml        that of another one
  ssh jenkins-b hotspare id          what to write into [[peer]] id on this node";

/// Print this node's id
///
/// The id is the fingerprint of the node's public key, and what peers know it by: write it into their configuration, or give it
/// to `hotspare trust` there. The key is made in the state directory when there is none yet; where [tls] cert is set, the id is that of
/// the certificate's key. The daemon need not run.
#[derive(Debug, Args)]
#[command(after_long_help = ID_EXAMPLES)]
pub(super) struct IdArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn id(args: &IdArgs) -> anyhow::Result<Answer> {
    let settings = args.config.load()?;
    let files = run::certificates(&settings);
    let id = match files.shown {
        Some(_) => shown_id(&files, &settings.node.name)?,
        None => own_id(&settings.node.state)?,
    };
    output::say(id.as_str())?;
    Ok(Answer::Yes)
}

const TRUST_EXAMPLES: &str = "\
Examples:
  hotspare trust hs1-... --name jenkins-b";

/// Believe a node
///
/// From now on the node with this id is let in, under this name, and a [[peer]] section of that name needs no id. It is kept in
/// the state directory. The daemon need not run; one that does acts upon it at once.
///
/// A node has one id. If another was trusted under this name it is trusted no longer, and its links end: that is what to do when a
/// node has got a new key. Give --also to keep both.
#[derive(Debug, Args)]
#[command(after_long_help = TRUST_EXAMPLES)]
pub(super) struct TrustArgs {
    /// The node's id, as `hotspare id` prints it there
    #[arg(value_parser = parse_id)]
    id: PeerId,

    /// The node's name
    #[arg(long, value_parser = parse_name)]
    name: NodeName,

    /// Go on trusting other ids of that name
    #[arg(long)]
    also: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn trust(args: &TrustArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    let replaced = match (daemon.connect().await, &daemon.settings) {
        (Ok(client), _) => client.trust(args.id.to_string(), args.name.clone(), args.also).await?.replaced,
        (Err(ClientError::NoDaemon(_)), Some(settings)) => {
            let state = &settings.node.state;
            create_directory(state, 0o700)?;
            trust_in(state, args.id.as_str(), &args.name, args.also)?
        }
        (Err(error), _) => return Err(error.into()),
    };
    for id in replaced {
        output::complain(&format!("{id}, until now {}, is trusted no longer (--also would have kept it)", args.name));
    }
    Ok(Answer::Yes)
}

const UNTRUST_EXAMPLES: &str = "\
Examples:
  hotspare untrust hs1-...";

/// Believe a node no longer
///
/// Undoes `hotspare trust`; a running daemon ends its links to that node at once. An id that stands in the configuration must be
/// taken out there.
#[derive(Debug, Args)]
#[command(after_long_help = UNTRUST_EXAMPLES)]
pub(super) struct UntrustArgs {
    /// The node's id
    #[arg(value_parser = parse_id)]
    id: PeerId,

    #[command(flatten)]
    daemon: DaemonArgs,
}

pub(super) async fn untrust(args: &UntrustArgs) -> anyhow::Result<Answer> {
    let daemon = args.daemon.find()?;
    match (daemon.connect().await, &daemon.settings) {
        (Ok(client), _) => client.untrust(args.id.to_string()).await?,
        (Err(ClientError::NoDaemon(_)), Some(settings)) => untrust_in_state(&settings.node.state, &args.id)?,
        (Err(error), _) => return Err(error.into()),
    }
    Ok(Answer::Yes)
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  hotspare rotate                    a new key; it is used when all trusted peers know it
  hotspare rotate --now              at once, without waiting for those that are away

Exit status: 0 the new key is in use; 1 it waits for peers.";

/// Give this node a new key
///
/// The new id is told to the peers over the links that the old key made; each trusts both. When all trusted peers know it the new key is used,
/// all links are made anew, and the old id is trusted no longer. A peer that is away keeps it waiting, which `hotspare status` tells; until
/// then this command, given again, makes no further key. One that is gone for good is waited for until `hotspare untrust`.
///
/// With --now it is used at once. A peer that does not know it then refuses this node until `hotspare trust` was run there. An id that stands
/// in a peer's configuration must be changed there.
///
/// A node that shows a certificate ([tls] cert) has no key of its own to change: renew that file and its key; the daemon takes them up.
#[derive(Debug, Args)]
#[command(after_long_help = ROTATE_EXAMPLES)]
pub(super) struct RotateArgs {
    /// Use the new key at once, whoever does not know it
    #[arg(long)]
    now: bool,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// How often and at which intervals is looked whether the peers know a new key: heartbeats tell them, one a second.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn rotate(args: &RotateArgs) -> anyhow::Result<Answer> {
    let client = args.daemon.find()?.connect().await?;
    let Rotation { id, waiting_for, mut is_done } = client.rotate(args.now).await?;
    output::say(&id)?;
    let mut looks = 0;
    let waited = !is_done;
    while !is_done && looks < LOOKS {
        tokio::time::sleep(LOOK).await;
        is_done = client.status().await?.node.id == id;
        looks += 1;
    }
    if !is_done {
        let names = waiting_for.join(", ");
        output::complain(&format!("the new key waits until it is known to: {names}; `hotspare status` tells more"));
        return Ok(Answer::No);
    }
    // Of those that were waited for each knows it by now.
    for name in waiting_for.iter().filter(|_| !waited) {
        output::complain(&format!("{name} does not know it: run `hotspare trust {id} --name NAME-OF-THIS-NODE` there"));
    }
    Ok(Answer::Yes)
}

/// The id of the key in `state`, which is made if there is none.
fn own_id(state: &Path) -> anyhow::Result<PeerId> {
    create_directory(state, 0o700)?;
    let id = Identity::load_or_create(state)?.id();
    Ok(PeerId::try_from(id.to_string())?)
}

/// The id of the key of the certificate that is shown.
fn shown_id(files: &CertificateFiles, own: &NodeName) -> anyhow::Result<PeerId> {
    let unusable = |text: &str| Failure::new(Class::Usage, format!("[tls] cannot be used: {text}"));
    let read = files.read(own, UnixTime::now()).map_err(|error| unusable(&crate::daemon::explain(&error)))?;
    let shown = read.shown.ok_or_else(|| unusable("it names no certificate"))?;
    Ok(PeerId::try_from(shown.id().to_string())?)
}

/// Takes it back, while no daemon runs.
fn untrust_in_state(state: &Path, id: &PeerId) -> anyhow::Result<()> {
    if !untrust_in(state, id.as_str())? {
        let failure = Failure::new(Class::Usage, format!("{id} is not trusted by command", id = id.as_str()));
        return Err(failure.hint("a peer named in the configuration is untrusted by taking it out there").into());
    }
    Ok(())
}

fn parse_id(text: &str) -> Result<PeerId, String> {
    PeerId::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn parse_name(text: &str) -> Result<NodeName, String> {
    NodeName::try_from(text.to_owned()).map_err(|error| error.to_string())
}
