mod sim;

use super::arrival::{Arrival, ArrivalError, ContentsPiece, Piece};
use super::follower::{Follower, FollowerError, Told};
use super::receiver::{Receiver, ReceiverError};
use super::sender::{Asked, Heard, Sender, SenderError};
use super::*;
use crate::thought::filter::Rules;
use crate::thought::generation::{Header, Joint, NamedPaths, Quality};
use crate::thought::wire::frame::encode_body;
use crate::thought::wire::message::{
    Abilities, Acked, CatchingUp, Deposed, HeldAll, Lack, Message, Rejected, StreamStart, data,
};
use crate::words::entry::{Digest, Timestamp};
use crate::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, NodeName, Position, Reign, ReignId};

fn hello(name: &str, role: Role, epoch: u64) -> Hello {
    Hello {
        protocols: (1, 1),
        node: NodeName::try_from(name.to_owned()).unwrap(),
        instance: InstanceNonce([u8::try_from(name.len()).unwrap(); 16]),
        cluster: Some(ClusterId([1; 16])),
        home: Some(HomeId([2; 16])),
        reigns: vec![Reign {
            id: ReignId([u8::try_from(epoch).unwrap(); 16]),
            epoch,
            parent: None,
            fork: Position::default(),
        }],
        role,
        position: Position { epoch, generation: 5 },
        chain: ChainDigest(Digest([7; 32])),
        tree: Digest::default(),
        limits: (0, 0),
        filter: Rules::default(),
        abilities: Abilities { owners: true, capabilities: true, user_xattrs: true, acls: true },
        features: 0,
        needs: 0,
        extensions: Vec::new(),
    }
}

fn header(epoch: u64, generation: u64, parent_chain: ChainDigest, joint: Joint) -> Header {
    Header {
        required_features: 0,
        optional_features: 0,
        cluster: ClusterId([1; 16]),
        home: HomeId([2; 16]),
        reign: ReignId([u8::try_from(epoch).unwrap(); 16]),
        position: Position { epoch, generation },
        parent: Position { epoch, generation: generation - 1 },
        parent_chain,
        joint,
        tree_before: Digest::default(),
        tree_after: Digest::default(),
        quality: Quality::Consistent,
        deferred: NamedPaths::default(),
        filter: Digest::default(),
        cut_time: Timestamp::default(),
        oldest_change: Timestamp::default(),
        operations: 0,
        operations_digest: Digest::default(),
        extensions: Vec::new(),
    }
}

fn refused(ours: &Hello, theirs: &Hello) -> RefusedWhy {
    judge(ours, theirs).unwrap_err().why
}

#[test]
fn a_hello_that_does_not_fit_is_refused_with_its_reason() {
    let primary = hello("a", Role::Primary, 3);
    let standby = hello("bb", Role::Standby, 3);
    assert_eq!(judge(&primary, &standby), Ok(1));
    assert_eq!(judge(&standby, &primary), Ok(1));
    let with = |change: fn(&mut Hello)| {
        let mut other = standby.clone();
        change(&mut other);
        other
    };
    assert_eq!(refused(&primary, &with(|other| other.protocols = (2, 9))), RefusedWhy::Protocol);
    assert_eq!(refused(&primary, &with(|other| other.cluster = Some(ClusterId([9; 16])))), RefusedWhy::Cluster);
    assert_eq!(refused(&primary, &with(|other| other.home = Some(HomeId([9; 16])))), RefusedWhy::Home);
    assert_eq!(refused(&primary, &with(|other| other.role = Role::Primary)), RefusedWhy::Role);
    assert_eq!(
        refused(&primary, &with(|other| other.node = NodeName::try_from("a".to_owned()).unwrap())),
        RefusedWhy::Name
    );
    assert_eq!(refused(&primary, &with(|other| other.reigns[0].epoch = 4)), RefusedWhy::Reign);
    let other_reign = with(|other| other.reigns[0].id = ReignId([9; 16]));
    assert_eq!(refused(&primary, &other_reign), RefusedWhy::Reign, "two reigns of one number");
    assert_eq!(judge(&primary, &with(|other| other.reigns[0].epoch = 2)), Ok(1), "a standby of an earlier reign");
    assert_eq!(judge(&primary, &with(|other| (other.cluster, other.home) = (None, None))), Ok(1));
}

#[test]
fn only_the_next_generation_of_the_greeted_reign_is_taken() {
    let primary = hello("a", Role::Primary, 3);
    let here = Position { epoch: 3, generation: 5 };
    let chain = ChainDigest(Digest([7; 32]));
    let mut receiver = Receiver::new(&primary, here, chain).unwrap();
    let next = header(3, 6, chain, Joint::Next);
    assert_eq!(receiver.check(&next), Ok(()));
    assert_eq!(
        receiver.check(&header(2, 6, chain, Joint::Next)),
        Err(ReceiverError::OtherReign(Position { epoch: 2, generation: 6 }))
    );
    assert!(matches!(
        receiver.check(&header(3, 6, ChainDigest::default(), Joint::Next)),
        Err(ReceiverError::OtherHistory { .. })
    ));
    assert!(matches!(receiver.check(&header(3, 5, chain, Joint::Next)), Err(ReceiverError::Backwards { .. })));
    receiver.accepted(&next);
    assert!(matches!(receiver.check(&next), Err(ReceiverError::OtherHistory { .. })), "a generation is taken once");
    let caught_up = header(3, 6, next.chain(), Joint::CatchUp { chain: ChainDigest(Digest([9; 32])) });
    assert_eq!(receiver.check(&caught_up), Ok(()));
}

#[test]
fn acks_come_in_the_order_of_sending_and_for_the_same_history() {
    let now = some_instant();
    let mut sender = Sender::<()>::new(&hello("bb", Role::Standby, 3), now);
    let at = |generation| Position { epoch: 3, generation };
    let chain = |byte| ChainDigest(Digest([byte; 32]));
    let acks = |sender: &mut Sender<()>, generation, byte| {
        let (kind, payload) = Message::from(Acked { position: at(generation), chain: chain(byte) }).encode().unwrap();
        sender.received(kind, &payload, now)
    };
    sender.sends(at(6), chain(6));
    assert!(!sender.may_send(), "one after the other");
    sender.ended();
    sender.sends(at(7), chain(7));
    sender.ended();
    assert_eq!(sender.head(), (at(7), chain(7)));
    assert_eq!(acks(&mut sender, 7, 7), Err(SenderError::NotSent(at(7))));
    assert_eq!(acks(&mut sender, 6, 9), Err(SenderError::OtherChain(at(6))));
    assert_eq!(acks(&mut sender, 6, 6), Ok(Heard::Acked(at(6))));
    assert_eq!(sender.position(), at(6));
    acks(&mut sender, 7, 7).unwrap();
    assert!(sender.is_idle());
    assert_eq!(acks(&mut sender, 8, 8), Err(SenderError::NotSent(at(8))));
}

#[test]
fn answers_go_to_whoever_asked_first_and_one_that_nobody_asked_for_ends_the_link() {
    let now = some_instant();
    let mut sender = Sender::new(&hello("bb", Role::Standby, 3), now);
    let hears = |sender: &mut Sender<u8>, message: Message| {
        let (kind, payload) = message.encode().unwrap();
        sender.received(kind, &payload, now)
    };
    let lack = || Message::from(Lack { bits: vec![1], ..Lack::default() });
    let all = || Message::from(HeldAll { count: 1 });
    sender.asks(Asked::Have, 1);
    sender.asks(Asked::AllHeld, 2);
    sender.asks(Asked::Have, 3);
    assert!(matches!(hears(&mut sender, lack()), Ok(Heard::Lack(1, _))));
    assert!(matches!(hears(&mut sender, lack()), Ok(Heard::Lack(3, _))));
    assert!(matches!(hears(&mut sender, lack()), Err(SenderError::Protocol(_))));
    let rejected = Rejected { position: Position::default(), text: String::new() };
    assert!(matches!(hears(&mut sender, rejected.into()), Ok(Heard::Rejected(_))));
    assert!(sender.wants_catch_up());
    assert!(matches!(hears(&mut sender, all()), Ok(Heard::HeldAll(2, _))), "the contents beside it are answered for");
    assert!(matches!(hears(&mut sender, all()), Err(SenderError::Protocol(_))));
}

#[test]
fn a_follower_told_of_a_higher_reign_ends_its_link() {
    let now = some_instant();
    let mut follower = Follower::new(&hello("a", Role::Primary, 3), Position::default(), now);
    let mut hears = |epoch| {
        let reign = hello("a", Role::Primary, epoch).reigns[0];
        let (kind, payload) = Message::from(Deposed { reign }).encode().unwrap();
        follower.received(kind, &payload, now)
    };
    assert_eq!(hears(3), Ok(Told::Nothing));
    assert!(matches!(hears(4), Err(FollowerError::Deposed { followed: 3, .. })));
}

#[test]
fn what_is_said_of_a_catch_up_after_its_generation_was_acked_is_no_news() {
    let now = some_instant();
    let at = |generation| Position { epoch: 3, generation };
    let mut follower = Follower::new(&hello("a", Role::Primary, 3), at(5), now);
    let hears = |follower: &mut Follower, from| {
        let (kind, payload) = Message::from(CatchingUp { from: at(from), ..CatchingUp::default() }).encode().unwrap();
        follower.received(kind, &payload, now)
    };
    assert!(matches!(hears(&mut follower, 5), Ok(Told::CatchingUp(_))));
    follower.acks(at(7));
    assert_eq!(hears(&mut follower, 5), Ok(Told::Nothing));
    assert!(matches!(hears(&mut follower, 7), Ok(Told::CatchingUp(_))), "another one, over the same link");
}

#[test]
fn a_data_stream_has_a_beginning_and_an_end() {
    let start = || encode_body(&StreamStart::Contents).unwrap();
    let mut arrival = Arrival::default();
    assert!(matches!(arrival.finish(), Err(ArrivalError::Empty)));
    assert!(matches!(arrival.frame(data::PAYLOAD, Vec::new()), Err(ArrivalError::NoStart)));
    assert!(matches!(arrival.frame(data::START, start()), Ok(Piece::Contents(ContentsPiece::Begin))));
    assert!(matches!(arrival.frame(data::START, start()), Err(ArrivalError::Kind(data::START))));
    assert!(matches!(arrival.frame(data::HELD_END, vec![1]), Ok(Piece::Contents(ContentsPiece::Held(true)))));
    assert!(matches!(arrival.finish(), Err(ArrivalError::NoEnd)));
    assert!(matches!(arrival.frame(data::END, Vec::new()), Ok(Piece::Contents(ContentsPiece::End))));
    assert!(matches!(arrival.frame(data::PAYLOAD, Vec::new()), Err(ArrivalError::AfterEnd)));
    arrival.finish().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "an Instant can only be got from the clock; its value is of no matter")]
fn some_instant() -> Instant {
    Instant::now()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn a_silent_peer_is_lost_after_ten_seconds_and_beats_come_every_second() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut pulse = Pulse::new(start);
    assert!(!pulse.beat(start));
    assert!(pulse.beat(at(1)));
    assert!(!pulse.beat(at(1)));
    pulse.heard(at(5));
    assert!(!pulse.is_lost(at(14)));
    assert!(pulse.is_lost(at(15)));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be got from the clock; its value is of no matter")]
fn a_peer_is_gone_ten_seconds_after_its_last_sign_of_life_and_not_before() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut pulse = Pulse::new(start);
    assert!(!pulse.beat(at(999)) && pulse.beat(at(1000)) && !pulse.beat(at(1999)) && pulse.beat(at(2100)));
    assert!(!pulse.is_lost(at(9_999)) && pulse.is_lost(at(10_000)));
    pulse.heard(at(9_000));
    assert!(!pulse.is_lost(at(18_999)) && pulse.is_lost(at(19_000)), "what is sent is no sign of the other's life");
}
