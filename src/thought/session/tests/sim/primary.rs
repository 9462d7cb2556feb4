//! A primary: its home, its history, its sessions. What its tasks do around [`Sender`] is done here in the same order, but at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::content::Content;
use super::{bytes, generation};
use crate::daemon::memory::Memory;
use crate::daemon::peers::{Ask, Peers};
use crate::daemon::window::{Operations, Shipment, Window, WindowLimits};
use crate::reveal::Records;
use crate::spool::Spool;
use crate::thought::dice::Dice;
use crate::thought::generation::{Header, Joint, OperationsDigest, Section};
use crate::thought::session::sender::Sender;
use crate::thought::wire::frame::FrameDecoder;
use crate::thought::wire::message::Hello;
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, NodeName, Position, Reign, ReignId};

/// So small that a standby which is away for some generations is compared.
const WINDOW: WindowLimits = WindowLimits { memory_bytes: 40, disk_bytes: 0, linger: Duration::ZERO };

/// One node that writes the history.
pub(super) struct Primary {
    pub(super) name: NodeName,
    pub(super) is_up: bool,
    /// Rises with every start.
    pub(super) boot: u64,
    /// What is on its disk, whatever becomes of the daemon.
    pub(super) home: Content,
    /// What it remembers, durably.
    pub(super) memory: Memory,
    /// The index it ended with in order is there.
    has_index: bool,
    pub(super) acks: BTreeMap<NodeName, Position>,
    pub(super) peers: Peers,
    pub(super) reign: Reign,
    pub(super) position: Position,
    chain: ChainDigest,
    /// The home as of `position`.
    tree: Content,
    pub(super) window: Window,
    pub(super) sessions: BTreeMap<usize, Session>,
}

/// One standby being served, or about to be.
pub(super) struct Session {
    pub(super) decoder: FrameDecoder,
    pub(super) ours: Hello,
    /// Since it greeted.
    pub(super) sender: Option<Sender<()>>,
    pub(super) asked: Option<mpsc::Receiver<Ask>>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) peer: Option<NodeName>,
    pub(super) since: Duration,
}

/// How far a comparison of trees has come.
pub(super) enum CatchUp {
    /// Which of the differing contents are there is asked next.
    Comparing,
    Asking(Vec<Digest>),
    Holding,
    /// What changed meanwhile is compared once more.
    Folding {
        view: (Position, ChainDigest),
        tree: Content,
    },
}

impl Primary {
    pub(super) fn new(name: &str, memory: Memory, home: Content) -> Self {
        let head = (Position::default(), ChainDigest::default());
        Self {
            name: NodeName::try_from(name.to_owned()).unwrap(),
            is_up: false,
            boot: 0,
            tree: Content::default(),
            home,
            memory,
            has_index: false,
            acks: BTreeMap::new(),
            peers: Peers::default(),
            reign: Reign { id: ReignId::default(), epoch: 0, parent: None, fork: head.0 },
            position: head.0,
            chain: head.1,
            window: Window::new(WINDOW, head),
            sessions: BTreeMap::new(),
        }
    }

    /// Starts as a node does: in its reign only if it ended in order and has the index it ended with.
    pub(super) fn start(&mut self, dice: &mut Dice) {
        self.boot += 1;
        let ended_at = self.memory.ended_at.take();
        (self.reign, self.position) = match (self.memory.reign(), ended_at) {
            (Some(reign), Some(position)) if reign.epoch == position.epoch && self.has_index => {
                (reign, Position { generation: position.generation + 1, ..position })
            }
            (known, _) => {
                let fork = known.map(|reign| reign.fork).unwrap_or_default();
                let reign = self.memory.begin_reign(ReignId(bytes(dice)), fork);
                (reign, Position { epoch: reign.epoch, generation: 0 })
            }
        };
        let instance: [u8; 16] = bytes(dice);
        self.chain = ChainDigest(Digest::of(&[&self.reign.id.0[..], &instance].concat()));
        self.tree = self.home.clone();
        self.window = Window::new(WINDOW, self.head());
        self.peers = Peers::remembering(self.acks.clone());
        self.is_up = true;
    }

    /// Ends: in order, with all of it written down, or not.
    pub(super) fn end(&mut self, is_in_order: bool, keeps_index: bool) {
        if is_in_order {
            self.memory.ended_at = Some(self.position);
            self.acks = self.peers.acks();
        }
        self.has_index = is_in_order && keeps_index;
        self.is_up = false;
        self.sessions.clear();
    }

    pub(super) fn head(&self) -> (Position, ChainDigest) {
        (self.position, self.chain)
    }

    pub(super) fn tree(&self) -> &Content {
        &self.tree
    }

    /// Makes a generation of what changed, or of nothing if one is wanted; true if there is one.
    pub(super) fn cut(&mut self, is_wanted: bool) -> bool {
        let operations = self.tree.difference(&self.home);
        if operations.is_empty() && !is_wanted {
            return false;
        }
        let parent = self.head();
        let position = Position { epoch: self.reign.epoch, generation: self.position.generation + 1 };
        let shipment = self.shipment(position, parent, Joint::Next, &self.tree, &self.home, &operations);
        self.tree = self.home.clone();
        (self.position, self.chain) = (position, shipment.header.chain());
        if self.sessions.is_empty() {
            self.window.skip_to(self.head());
        } else {
            self.window.push(Arc::new(shipment));
        }
        true
    }

    /// The generation that leads a standby which has `theirs`, at `parent`, to `view`.
    pub(super) fn catch_up(
        &self,
        parent: (Position, ChainDigest),
        (view, tree): ((Position, ChainDigest), &Content),
        theirs: &Content,
    ) -> Shipment {
        let operations = theirs.difference(tree);
        self.shipment(view.0, parent, Joint::CatchUp { chain: view.1 }, theirs, tree, &operations)
    }

    fn shipment(
        &self,
        position: Position,
        parent: (Position, ChainDigest),
        joint: Joint,
        before: &Content,
        after: &Content,
        operations: &[Vec<u8>],
    ) -> Shipment {
        let nowhere = std::path::Path::new("");
        let mut records = Records::new(Spool::create(nowhere).unwrap());
        let mut digest = OperationsDigest::default();
        for operation in operations {
            digest.update(operation);
            records.push(Section::Create, operation).unwrap();
        }
        let header = Header {
            tree_before: before.digest(),
            tree_after: after.digest(),
            operations: operations.len() as u64,
            operations_digest: digest.finish(),
            ..generation(self.reign.id, position, parent, joint)
        };
        let payloads = Spool::create(nowhere).unwrap().reader();
        Shipment { header, operations: Operations::new(records).unwrap(), payloads, payload_bytes: 0 }
    }
}
