//! Starting a node.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::search::search;
use super::{Inner, Node, NodeError, NodeOptions, Part};
use crate::daemon::bound::{Bound, bind};
use crate::daemon::certificates::Certificates;
use crate::daemon::filters::Filters;
use crate::daemon::holder::Holder;
use crate::daemon::keeper::{Keeper, KeeperOptions, open_index};
use crate::daemon::keys::Keys;
use crate::daemon::memory::{Memory, load_acks, load_trust};
use crate::daemon::peers::{Peers, remember_acks};
use crate::daemon::primary::{PrimaryContext, accept, first_chain};
use crate::daemon::standby::{StandbyContext, StandbyReport};
use crate::fs::state::{create_directory, lock_directory};
use crate::fs::{Able, Root, XattrPolicy};
use crate::net::endpoint::{Endpoint, Limits};
use crate::net::identity::Identity;
use crate::net::trust::TrustedPeers;
use crate::reveal::{ReplicaOptions, marker};
use crate::thought::wire::message::{Abilities, CONTROL_CAP, DATA_CAP, Hello, PROTOCOLS, Role};
use crate::words::entry::Digest;
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, Position, ReignId};

/// How many commands may wait for the keeper.
const COMMANDS: usize = 64;

impl Node {
    /// Starts a node; when this returns it is running, though it may have met nobody yet.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        check_home(&options)?;
        create_directory(&options.state, 0o700)?;
        let lock = lock_directory(&options.state)?;
        let mut memory = Memory::load(&options.state)?;
        let own_key = Identity::load_or_create(&options.state)?;
        let trusted = TrustedPeers::new();
        for peer in &options.peers {
            if let Some(id) = peer.id {
                trusted.trust(id, peer.name.clone());
            }
        }
        for known in load_trust(&options.state)? {
            let id = known.id.parse().map_err(|_| NodeError::PeerId(known.id.clone()))?;
            trusted.trust(id, known.name);
        }
        let expected = options.peers.iter().map(|peer| peer.name.clone()).collect();
        let (files, own) = (options.certificates.clone(), options.name.clone());
        let (certificates, shown) = Certificates::load(files, own, expected, trusted.clone())?;
        let identity = shown.unwrap_or(own_key);
        let limits = Limits { frame_cap_bytes: DATA_CAP, ..Limits::default() };
        let endpoint = Arc::new(Endpoint::bind(options.listen, &identity, trusted.clone(), limits)?);
        let keys = Arc::new(Keys::load(
            options.state.clone(),
            trusted.clone(),
            Arc::clone(&endpoint),
            certificates.shown().cloned(),
        )?);
        let certificates = Arc::new(certificates);
        let instance = InstanceNonce(random()?);
        let peers = Arc::new(Peers::remembering(load_acks(&options.state)?));
        let mut tasks = JoinSet::new();
        let (part, keeper, memory) = match options.role {
            Role::Primary => {
                let started = start_primary(&options, memory, instance, &keys)?;
                let context = PrimaryContext { peers: Arc::clone(&peers), ..started.context };
                let part = Part::Primary { shared: Arc::clone(&context.shared), keeper: context.keeper.clone() };
                let memory = Arc::clone(&context.memory);
                let (endpoint, remembering, state) = (Arc::clone(&endpoint), Arc::clone(&peers), options.state.clone());
                tasks.spawn(async move { remember_acks(&remembering, &state).await });
                tasks.spawn(async move { accept(&endpoint, context).await });
                (part, Some(started.thread), memory)
            }
            Role::Standby => {
                bind_here(&options, &mut memory)?;
                let memory = Arc::new(Mutex::new(memory));
                let context = Box::new(start_standby(&options, &memory, &peers, instance, &keys)?);
                (Part::Standby { context }, None, memory)
            }
        };
        let inner = Arc::new(Inner {
            keys,
            certificates,
            options,
            instance,
            trusted,
            memory,
            peers,
            endpoint,
            part,
            hopeless: Mutex::new(None),
            configured: Mutex::default(),
            resync: Mutex::new(None),
            scrub: Mutex::new(None),
            ending: AtomicBool::new(false),
        });
        if let Part::Standby { .. } = &inner.part {
            let dialing = Arc::clone(&inner);
            tasks.spawn(async move { search(&dialing).await });
        }
        tasks.spawn(Arc::clone(&inner.certificates).watch(Arc::clone(&inner.endpoint)));
        if let Some(options) = inner.options.scrub {
            tasks.spawn(super::scrub::scrub(Arc::clone(&inner), options));
        }
        Ok(Self { inner, tasks, keeper, _lock: lock })
    }
}

fn check_home(options: &NodeOptions) -> Result<(), NodeError> {
    let home = &options.home;
    let refuse = |why| Err(NodeError::Home { home: home.clone(), why });
    if options.role == Role::Standby && !home.exists() {
        create_directory(home, 0o700)?;
    }
    let Ok(real) = home.canonicalize() else { return refuse("there is no such directory, or it cannot be reached") };
    if !real.is_dir() {
        return refuse("it is not a directory");
    }
    if real == Path::new("/") {
        return refuse("it is the root of the whole system");
    }
    match Root::open(&real).and_then(|root| root.list(&RelPath::root())) {
        Ok(_) => Ok(()),
        Err(source) => Err(NodeError::Unreadable { home: home.clone(), source }),
    }
}

struct StartedPrimary {
    context: PrimaryContext,
    thread: std::thread::JoinHandle<Result<Position, crate::daemon::keeper::KeeperError>>,
}

/// Sees to it that the state is where it belongs. After the home is known to be the right one: a file system that is not mounted has another
/// inode too.
fn bind_here(options: &NodeOptions, memory: &mut Memory) -> Result<(), NodeError> {
    let moved = |what| NodeError::Moved { state: options.state.clone(), what };
    bind(memory, Bound::here(&options.home, options.role)?, options.moved).map_err(moved)?;
    Ok(memory.save(&options.state)?)
}

fn start_primary(
    options: &NodeOptions,
    mut memory: Memory,
    instance: InstanceNonce,
    keys: &Arc<Keys>,
) -> Result<StartedPrimary, NodeError> {
    let root = Root::open(&options.home)?;
    let home = match (marker::read(&root)?, memory.home) {
        (Some(found), Some(known)) if found != known => {
            return Err(NodeError::OtherHome { home: options.home.clone(), found, known });
        }
        (Some(found), _) => found,
        (None, Some(known)) => return Err(NodeError::Unmarked { home: options.home.clone(), known }),
        (None, None) => {
            let home = HomeId(random()?);
            marker::write(&root, home)?;
            home
        }
    };
    memory.home = Some(home);
    bind_here(options, &mut memory)?;
    let cluster = *memory.cluster.get_or_insert(ClusterId(random()?));
    // Only a primary that ended in order, and has the index it ended with, knows where it stood; any other begins a new reign.
    let ended_at = memory.ended_at.take();
    let (index, is_that) = open_index(&options.state, ended_at)?;
    let (reign, position) = match (memory.reign(), ended_at) {
        (Some(reign), Some(position)) if reign.epoch == position.epoch && is_that => {
            (reign, Position { generation: position.generation + 1, ..position })
        }
        (known, _) => {
            let fork = known.map(|reign| reign.fork).unwrap_or_default();
            let reign = memory.begin_reign(ReignId(random()?), fork);
            if known.is_some() {
                tracing::warn!(
                    epoch = reign.epoch,
                    "this primary did not end in order, or lost its index: a new reign begins"
                );
            }
            (reign, Position { epoch: reign.epoch, generation: 0 })
        }
    };
    memory.save(&options.state)?;
    let (keeper, commands) = mpsc::channel(COMMANDS);
    let keeper_options = KeeperOptions {
        home: options.home.clone(),
        state: options.state.clone(),
        filter: options.filter.clone(),
        xattrs: XattrPolicy::default(),
        watch: options.watch,
        windows: options.windows,
        large_from_bytes: options.large_from_bytes,
        rounds: crate::capture::RoundOptions::default(),
        poll: options.poll,
        window: options.window,
        paused: memory.paused_since.is_some(),
        scan_always: options.scan_always,
        cluster,
        home_id: home,
        reign,
        position,
        chain: first_chain(reign.id, instance),
    };
    let (work, shared) = Keeper::open(keeper_options, index, commands)?;
    let thread =
        std::thread::Builder::new().name("keeper".into()).spawn(move || work.run()).map_err(NodeError::Thread)?;
    let hello = Hello { cluster: Some(cluster), home: Some(home), ..hello(options, instance) };
    let context = PrimaryContext {
        shared,
        keeper,
        peers: Arc::default(),
        home: options.home.clone(),
        state: options.state.clone(),
        ids: (cluster, home),
        memory: Arc::new(Mutex::new(memory)),
        keys: Arc::clone(keys),
        hello,
    };
    Ok(StartedPrimary { context, thread })
}

fn start_standby(
    options: &NodeOptions,
    memory: &Arc<Mutex<Memory>>,
    peers: &Arc<Peers>,
    instance: InstanceNonce,
    keys: &Arc<Keys>,
) -> Result<StandbyContext, NodeError> {
    let report: Arc<Mutex<StandbyReport>> = Arc::default();
    report.lock().unwrap_or_else(PoisonError::into_inner).filesystem =
        Root::open(&options.home)?.filesystem()?.to_string();
    let replica = ReplicaOptions {
        home: options.home.clone(),
        state: options.state.clone(),
        xattrs: XattrPolicy::default(),
        adopt: options.adopt,
        anew: options.anew,
    };
    let told = Arc::clone(&report);
    let failed = Arc::new(move |text: String| {
        told.lock().unwrap_or_else(PoisonError::into_inner).stuck = Some(text);
    });
    let filters = Filters::new(options.filter.clone());
    let (own, known) = (filters.clone(), Arc::clone(memory));
    let filter = Arc::new(move || known.lock().unwrap_or_else(PoisonError::into_inner).filter_of_primary(&own.now()));
    let holder = Holder::start(replica, filter, options.guards, failed).map_err(NodeError::Thread)?;
    let is_paused = memory.lock().unwrap_or_else(PoisonError::into_inner).paused_since.is_some();
    Ok(StandbyContext {
        holder,
        peers: Arc::clone(peers),
        memory: Arc::clone(memory),
        state: options.state.clone(),
        keys: Arc::clone(keys),
        filters,
        hello: hello(options, instance),
        report,
        strays: watch::Sender::new(0),
        paused: watch::Sender::new(is_paused),
    })
}

pub(super) fn hello(options: &NodeOptions, instance: InstanceNonce) -> Hello {
    let able = Root::open(&options.home).map_or_else(|_| Able::everything(), |root| Able::detect(&root));
    Hello {
        protocols: PROTOCOLS,
        node: options.name.clone(),
        instance,
        cluster: None,
        home: None,
        reigns: Vec::new(),
        role: options.role,
        position: Position::default(),
        chain: ChainDigest::default(),
        tree: Digest::default(),
        limits: (u32::try_from(CONTROL_CAP).unwrap_or(u32::MAX), u32::try_from(DATA_CAP).unwrap_or(u32::MAX)),
        filter: options.filter.rules().clone(),
        abilities: Abilities {
            owners: able.owners(),
            capabilities: able.capabilities(),
            user_xattrs: able.user_xattrs(),
            acls: able.acls(),
        },
        features: 0,
        needs: 0,
        extensions: options.bandwidth.iter().filter_map(|bandwidth| bandwidth.extension().ok()).collect(),
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], NodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NodeError::Random)?;
    Ok(bytes)
}
