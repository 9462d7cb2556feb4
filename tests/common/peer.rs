//! A peer of the tests' own: it greets over the library's network room, and says and sends what no daemon would.

use hotspare::daemon::memory::Memory;
use hotspare::net::connection::Connection;
use hotspare::net::endpoint::{Endpoint, Limits};
use hotspare::net::identity::Identity;
use hotspare::net::link::{ControlReceiver, ControlSender, DataStreams, Link, Priority};
use hotspare::net::trust::TrustedPeers;
use hotspare::thought::filter::Rules;
use hotspare::thought::generation::{Header, Joint, NamedPaths, OperationsDigest, Quality};
use hotspare::thought::wire::frame::{Frame, encode_body};
use hotspare::thought::wire::message::{
    Abilities, CHUNK_BYTES, DATA_CAP, Hello, Message, PROTOCOLS, Role, StreamStart, data,
};
use hotspare::words::entry::{Digest, Timestamp};
use hotspare::words::position::{ChainDigest, InstanceNonce, Position};

use super::pair::{PATIENCE, Pair};

/// How a node of that name greets which has met nobody yet.
pub(crate) fn hello(name: &str, role: Role) -> Hello {
    Hello {
        protocols: PROTOCOLS,
        node: name.to_owned().try_into().unwrap(),
        instance: InstanceNonce([9; 16]),
        cluster: None,
        home: None,
        reigns: Vec::new(),
        role,
        position: Position::default(),
        chain: ChainDigest::default(),
        tree: Digest::default(),
        limits: (1 << 20, 1 << 20),
        filter: Rules::default(),
        abilities: Abilities { owners: true, capabilities: true, user_xattrs: true, acls: true },
        features: 0,
        needs: 0,
        extensions: Vec::new(),
    }
}

/// An attacker with the key of the primary.
pub(crate) struct Hostile {
    pub(crate) endpoint: Endpoint,
    hello: Hello,
}

/// A link to the standby, after both greeted.
pub(crate) struct Met {
    pub(crate) control: ControlSender,
    pub(crate) incoming: ControlReceiver,
    pub(crate) streams: DataStreams,
    ours: Hello,
    theirs: Hello,
}

impl Hostile {
    /// Has the place of `pair`'s primary, which does not run. To be called inside a runtime.
    pub(crate) fn of(pair: &Pair) -> Self {
        let state = pair.bed.path("jenkins-a");
        let memory = Memory::load(&state).unwrap();
        let trusted = TrustedPeers::new();
        trusted.trust(pair.id(&pair.standby).parse().unwrap(), "jenkins-b".to_owned().try_into().unwrap());
        let limits = Limits { frame_cap_bytes: DATA_CAP, ..Limits::default() };
        let listen = format!("0.0.0.0:{}", pair.primary.port).parse().unwrap();
        let endpoint = Endpoint::bind(listen, &Identity::load(&state).unwrap(), trusted, limits).unwrap();
        let Memory { cluster, home, reigns, .. } = memory;
        let hello = Hello { cluster, home, reigns, ..hello("jenkins-a", Role::Primary) };
        Self { endpoint, hello }
    }

    pub(crate) async fn meet(&self) -> Met {
        // The standby dials several addresses at once, and greets over one of these connections only.
        let mut greetings = tokio::task::JoinSet::new();
        let meeting = async {
            loop {
                tokio::select! {
                    accepted = self.endpoint.accept() => if let Some(Ok(connection)) = accepted {
                        let hello = self.hello.clone();
                        greetings.spawn(async move { Met::greet(connection, hello).await });
                    },
                    Some(greeted) = greetings.join_next() => if let Ok(Some(met)) = greeted {
                        return met;
                    },
                }
            }
        };
        tokio::time::timeout(PATIENCE, meeting).await.expect("the standby dials again")
    }
}

impl Drop for Met {
    /// The standby need not find out by silence.
    fn drop(&mut self) {
        self.streams.connection().close();
    }
}

/// How the standby took it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It said that it does not take the generation.
    Rejected,
    /// It ended the link.
    Ended,
    /// It acked.
    Acked,
    /// It has the contents.
    Held,
}

/// One frame after the other, as bytes.
#[derive(Clone, Default)]
pub(crate) struct Frames(pub(crate) Vec<u8>);

impl Frames {
    pub(crate) fn with(mut self, kind: u8, payload: &[u8]) -> Self {
        Frame { kind, payload }.encode(usize::MAX, &mut self.0).unwrap();
        self
    }
}

impl Met {
    async fn greet(connection: Connection, ours: Hello) -> Option<Self> {
        let mut link = Link::accept(connection).await.ok()?;
        let (kind, payload) = Message::from(ours.clone()).encode().ok()?;
        link.send(kind, &payload).await.ok()?;
        let (kind, payload) = link.recv().await.ok()??;
        let Ok(Some(Message::Hello(theirs))) = Message::decode(kind, &payload) else { return None };
        let (control, incoming, streams) = link.split();
        Some(Self { control, incoming, streams, ours, theirs })
    }

    /// A header that fits where the standby stands, for these operations.
    pub(crate) fn header(&self, operations: &[Vec<u8>]) -> Header {
        let mut digest = OperationsDigest::default();
        operations.iter().for_each(|operation| digest.update(operation));
        let reign = *self.ours.reigns.last().unwrap();
        let Position { generation, .. } = self.theirs.position;
        Header {
            required_features: 0,
            optional_features: 0,
            cluster: self.ours.cluster.unwrap(),
            home: self.ours.home.unwrap(),
            reign: reign.id,
            position: Position { epoch: reign.epoch, generation: generation + 1 },
            parent: self.theirs.position,
            parent_chain: self.theirs.chain,
            joint: Joint::Next,
            tree_before: self.theirs.tree,
            tree_after: Digest::default(),
            quality: Quality::Consistent,
            deferred: NamedPaths::default(),
            filter: Digest::default(),
            cut_time: Timestamp::default(),
            oldest_change: Timestamp::default(),
            operations: operations.len() as u64,
            operations_digest: digest.finish(),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn start(header: &Header) -> Frames {
        let start = StreamStart::Generation { header: header.encode() };
        Frames::default().with(data::START, &encode_body(&start).unwrap())
    }

    /// The stream of a generation of these operations and what follows each.
    pub(crate) fn generation(&self, operations: &[(Vec<u8>, Vec<u8>)]) -> Frames {
        let encoded: Vec<Vec<u8>> = operations.iter().map(|(operation, _)| operation.clone()).collect();
        let frames = operations.iter().fold(Self::start(&self.header(&encoded)), |frames, (operation, payload)| {
            let frames = frames.with(data::OPERATION, operation);
            payload.chunks(CHUNK_BYTES).fold(frames, |frames, piece| frames.with(data::PAYLOAD, piece))
        });
        frames.with(data::END, &[])
    }

    /// Sends a stream; one that is stopped by the standby was sent far enough.
    pub(crate) async fn sends(&self, frames: &Frames) {
        if let Ok(mut stream) = self.streams.open_data(Priority::GENERATION).await
            && stream.write_all(&frames.0).await.is_ok()
        {
            stream.finish().ok();
        }
    }

    /// What the standby says to what it was sent.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let hearing = async {
            loop {
                match self.incoming.recv().await {
                    Ok(Some((kind, payload))) => match Message::decode(kind, &payload) {
                        Ok(Some(Message::Rejected(_))) => return Outcome::Rejected,
                        Ok(Some(Message::Acked(_))) => return Outcome::Acked,
                        Ok(Some(Message::HeldAll(_))) => return Outcome::Held,
                        _ => {}
                    },
                    Ok(None) | Err(_) => return Outcome::Ended,
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("the standby says or does something")
    }

    pub(crate) async fn says(&mut self, message: impl Into<Message>) -> bool {
        let (kind, payload) = message.into().encode().unwrap();
        self.control.send(kind, &payload).await.is_ok()
    }
}
