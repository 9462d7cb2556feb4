use super::receiver::{Receiver, ReceiverError};
use super::sender::{Sender, SenderError};
use super::*;
use crate::thought::filter::Rules;
use crate::thought::generation::{Header, Joint, NamedPaths, Quality};
use crate::thought::wire::message::{Abilities, Acked};
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
    let mut sender = Sender::new(&hello("bb", Role::Standby, 3));
    let at = |generation| Position { epoch: 3, generation };
    let chain = |byte| ChainDigest(Digest([byte; 32]));
    sender.sent(at(6), chain(6));
    sender.sent(at(7), chain(7));
    assert_eq!(sender.head(), (at(7), chain(7)));
    assert_eq!(sender.acked(&Acked { position: at(7), chain: chain(7) }), Err(SenderError::NotSent(at(7))));
    assert_eq!(sender.acked(&Acked { position: at(6), chain: chain(9) }), Err(SenderError::OtherChain(at(6))));
    sender.acked(&Acked { position: at(6), chain: chain(6) }).unwrap();
    assert_eq!(sender.position(), at(6));
    sender.acked(&Acked { position: at(7), chain: chain(7) }).unwrap();
    assert!(sender.is_idle());
    assert_eq!(sender.acked(&Acked { position: at(8), chain: chain(8) }), Err(SenderError::NotSent(at(8))));
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
