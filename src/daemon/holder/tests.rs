//! The holder with generations of a real directory, given to it as they would arrive.
#![expect(clippy::disallowed_methods, reason = "tests make and change directories as other programs do")]

mod hold;
mod lane;
mod look;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Event, Guards, Holder, Job, Stand};
use crate::fs::Root;
use crate::reveal::tests::primary::{Generation, Primary};
use crate::reveal::tests::{Ground, HOME};
use crate::thought::filter::{Filter, Rules};
use crate::thought::generation::Header;
use crate::thought::session::arrival::GenerationPiece;
use crate::thought::session::receiver::Receiver;
use crate::thought::wire::message::{Abilities, Hello, Role};
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, InstanceNonce, NodeName, Position, Reign};

/// A holder, and the primary whose generations it takes.
struct Fed {
    ground: Ground,
    primary: Primary,
    holder: Holder,
}

impl Fed {
    async fn new() -> Self {
        let ground = Ground::new();
        let holder = start(&ground);
        let stand = holder.ask(|reply| Job::Stand { home: Some(HOME), reply }).await.unwrap().unwrap().unwrap();
        assert_eq!(stand.standing.position, Position::default());
        let root = Root::open(&ground.replica()).unwrap();
        let row = crate::reveal::tests::root_row(&root);
        let primary = Primary::new(&ground.source(), &ground.state(), &row);
        let fed = Self { ground, primary, holder };
        fed.link().await;
        fed
    }

    /// Links the holder to the primary, where it stands; what happens is told.
    async fn link(&self) -> mpsc::UnboundedReceiver<Event> {
        let standing = self.stand().await.standing;
        let receiver = Receiver::new(&hello(), standing.position, standing.chain).unwrap();
        let (events, mut happened) = mpsc::channel(64);
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(event) = happened.recv().await {
                tell.send(event).ok();
            }
        });
        assert!(self.holder.give(Job::Link(events, receiver)).await);
        told
    }

    fn source(&self, path: &str) -> PathBuf {
        self.ground.source().join(path)
    }

    fn replica(&self, path: &str) -> PathBuf {
        self.ground.replica().join(path)
    }

    /// Where the replica stands.
    async fn stand(&self) -> Stand {
        self.holder.ask(|reply| Job::Stand { home: None, reply }).await.unwrap().unwrap().unwrap()
    }

    /// Has what changed in the source taken; true if it is acked by then.
    async fn take(&mut self) -> bool {
        let generation = self.primary.generation();
        self.give(&generation).await;
        self.stand().await.standing.position == generation.header.position
    }

    async fn give(&self, generation: &Generation) {
        assert!(self.holder.give(Job::Arrived(pieces(generation))).await);
    }
}

fn pieces(generation: &Generation) -> Vec<GenerationPiece> {
    let mut pieces = vec![GenerationPiece::Begin(Box::new(generation.header.clone()))];
    for (operation, payload) in &generation.operations {
        pieces.push(GenerationPiece::Operation(operation.encode()));
        pieces.extend(payload.iter().map(|payload| GenerationPiece::Payload(payload.clone())));
    }
    pieces.push(GenerationPiece::End);
    pieces
}

/// How the primary greets.
fn hello() -> Hello {
    let Header { cluster, reign, position, .. } = crate::reveal::tests::primary::header();
    let reign = Reign { id: reign, epoch: position.epoch, parent: None, fork: Position::default() };
    Hello {
        protocols: (1, 1),
        node: NodeName::try_from("primary".to_owned()).unwrap(),
        instance: InstanceNonce([1; 16]),
        cluster: Some(cluster),
        home: Some(HOME),
        reigns: vec![reign],
        role: Role::Primary,
        position,
        chain: ChainDigest::default(),
        tree: Digest::default(),
        limits: (0, 0),
        filter: Rules::default(),
        abilities: Abilities { owners: true, capabilities: true, user_xattrs: true, acls: true },
        features: 0,
        needs: 0,
        extensions: Vec::new(),
    }
}

fn start(ground: &Ground) -> Holder {
    let filter = Arc::new(Filter::everything);
    Holder::start(ground.options(), filter, Guards::default(), Arc::new(|_| {})).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_content_that_is_asked_for_is_copied_before_the_answer() {
    let mut fed = Fed::new().await;
    let (large, middling) = (vec![7; 9 << 20], vec![8; 1 << 20]);
    std::fs::write(fed.source("large"), &large).unwrap();
    std::fs::write(fed.source("middling"), &middling).unwrap();
    assert!(fed.take().await);
    let [large, middling, missing] = [&large[..], &middling, b"missing"].map(Digest::of);
    let lack = fed.holder.lack(vec![large, middling, missing]).await.unwrap();
    assert_eq!(lack.bits, [0b100]);
    let held: Vec<_> = std::fs::read_dir(fed.replica(".hotspare/stage/held")).unwrap().collect();
    let names: Vec<_> = held.into_iter().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, [large.to_string()]);
}
