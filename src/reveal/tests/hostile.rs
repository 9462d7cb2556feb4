//! What a peer may send that no honest one would (G8): refused, without a panic, and nothing in the replica changes.

use std::fs;

use super::snapshot::differences;
use super::*;
use crate::thought::delta::Span;
use crate::thought::generation::{Action, Content, Operation, Payload};
use crate::words::entry::{Body, Digest, Entry, Proof, Timestamp, Xattrs};

/// A replica at a generation, and a way to send it made-up ones.
struct Victim {
    ground: Ground,
    replica: Replica,
    primary: Primary,
    look: Snapshot,
}

impl Victim {
    fn new() -> Self {
        let ground = Ground::new();
        fs::create_dir(ground.source().join("directory")).unwrap();
        fs::write(ground.source().join("directory/file"), "content").unwrap();
        fs::write(ground.source().join("large"), Dice::new(4).noise(1_200_000)).unwrap();
        std::os::unix::fs::symlink("/tmp", ground.source().join("link")).unwrap();
        let mut replica = ground.open();
        let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
        take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
        let look = ground.look();
        Self { ground, replica, primary, look }
    }

    /// The next generation, with these operations instead of its own.
    fn forged(&mut self, actions: Vec<(Action, Option<Vec<u8>>)>) -> Generation {
        fs::write(self.ground.source().join("next"), "next").unwrap();
        let mut generation = self.primary.generation();
        let number = |(id, (action, payload)): (u32, (Action, Option<Vec<u8>>))| {
            // Packed, a short payload is itself behind a byte or two: what a test sends need not be unpackable.
            let announced = payload.as_ref().map(|bytes| Payload { length: bytes.len() as u64, unpacked: 7 });
            (Operation { id, action, payload: announced }, payload)
        };
        generation.operations = (0..).zip(actions).map(number).collect();
        generation.sealed()
    }

    /// Sends it; the error that came of it. After that, and after opening again, the replica is as it was.
    fn refuses(self, generation: &Generation) -> String {
        let Self { ground, mut replica, look, .. } = self;
        let standing = replica.standing();
        let error = ack(&mut replica, generation, &mut Dice::new(3)).expect_err("this must not be taken");
        assert!(replica.reveal().is_err() || replica.unrevealed() == 0);
        assert_eq!(differences(&look, &ground.look()), Vec::<String>::new(), "{error:?}");
        drop(replica);
        let (replica, opening) = ground.try_open().unwrap();
        assert_eq!((replica.standing(), opening), (standing, Opening::Recovered(0)), "{error:?}");
        assert_eq!(differences(&look, &ground.look()), Vec::<String>::new(), "{error:?}");
        assert_eq!(ground.litter(), Vec::<String>::new());
        format!("{error:?}")
    }
}

fn entry(body: Body) -> Entry {
    Entry {
        body,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 1, nanoseconds: 2 },
        xattrs: Xattrs::default(),
        link: None,
    }
}

fn file(content: &[u8]) -> Body {
    Body::File { size: content.len() as u64, digest: Digest::of(content), proof: Proof::Hashed }
}

fn empty(at: &str) -> Action {
    Action::Create { path: path(at), entry: entry(file(b"")), content: Content::None, sparse: false }
}

fn refused(actions: Vec<Action>) -> String {
    let mut victim = Victim::new();
    let generation = victim.forged(actions.into_iter().map(|action| (action, None)).collect());
    victim.refuses(&generation)
}

#[test]
fn nothing_reaches_into_the_reserved_directory() {
    for action in [
        empty(".hotspare/journal/x"),
        empty(".hotspare"),
        Action::Remove { path: path(".hotspare/journal") },
        Action::Rename { from: path(".hotspare"), to: path("mine") },
        Action::Rename { from: path("large"), to: path(".hotspare/large") },
        Action::Attributes { path: path(".hotspare"), entry: entry(Body::Directory) },
        Action::Link { path: path("mine"), target: path(".hotspare/home"), entry: entry(file(b"")) },
    ] {
        refused(vec![action]);
    }
}

#[test]
fn nothing_goes_through_a_link() {
    let told = refused(vec![empty("link/through")]);
    assert!(told.contains("NoParent"), "{told}");
    // Nor through one that comes in the same generation, or that stands where a directory was.
    let target = Body::Symlink { target: (*b"/tmp").into() };
    let link =
        |at| Action::Create { path: path(at), entry: entry(target.clone()), content: Content::None, sparse: false };
    refused(vec![link("other"), empty("other/through")]);
    refused(vec![Action::Remove { path: path("directory") }, link("directory"), empty("directory/through")]);
    refused(vec![Action::Attributes { path: path("link/through"), entry: entry(file(b"")) }]);
    assert!(!std::path::Path::new("/tmp/through").exists());
}

#[test]
fn a_link_that_somebody_put_into_the_replica_is_not_followed() {
    let Victim { ground, mut replica, mut primary, .. } = Victim::new();
    let outside = tempfile::tempdir().unwrap();
    fs::rename(ground.replica().join("directory"), ground.replica().join("away")).unwrap();
    std::os::unix::fs::symlink(outside.path(), ground.replica().join("directory")).unwrap();
    fs::write(ground.source().join("directory/new"), "x").unwrap();
    ack(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    let error = replica.reveal().unwrap_err();
    assert!(matches!(error, ReplicaError::Stuck { .. }), "{error:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // When it is put right the reveal goes on.
    fs::remove_file(ground.replica().join("directory")).unwrap();
    fs::rename(ground.replica().join("away"), ground.replica().join("directory")).unwrap();
    replica.reveal().unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}

#[test]
fn a_directory_that_becomes_a_link_again_and_again_during_reveals_leads_nowhere() {
    let Victim { ground, mut replica, mut primary, .. } = Victim::new();
    let outside = tempfile::tempdir().unwrap();
    let (directory, decoy) = (ground.replica().join("directory"), ground.replica().join("decoy"));
    std::os::unix::fs::symlink(outside.path(), &decoy).unwrap();
    let swap = || {
        let (from, to) = (rustix::fs::CWD, rustix::fs::CWD);
        rustix::fs::renameat_with(from, &directory, to, &decoy, rustix::fs::RenameFlags::EXCHANGE).is_ok()
    };
    let (mut refused, mut shown) = (0, 0);
    for round in 0..40 {
        // When the link was met twice that is enough; whether it is, is a matter of moments.
        if refused >= 2 && round >= 8 {
            break;
        }
        fs::write(ground.source().join("directory/new"), format!("{round}")).unwrap();
        fs::write(ground.source().join(format!("directory/{round}")), "x").unwrap();
        ack(&mut replica, &primary.generation(), &mut Dice::new(round)).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    swap();
                }
            });
            match replica.reveal() {
                Ok(_) => shown += 1,
                Err(_) => refused += 1,
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        // Put right, it goes on, as the holder has it: the replica is opened anew.
        if !fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir()) {
            assert!(swap(), "both are there");
        }
        drop(replica);
        replica = ground.open();
        assert_eq!(replica.unrevealed(), 0);
    }
    println!("{refused} reveals met the link, {shown} did not");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing went through the link");
    fs::remove_file(&decoy).unwrap();
    // The swaps have left their time on the root.
    let found: Vec<_> = differences(&ground.look_at_source(), &ground.look());
    assert!(found.iter().all(|difference| difference.starts_with(".: ")), "{found:?}");
}

#[test]
fn operations_come_once_numbered_and_in_order() {
    refused(vec![empty("b"), empty("a")]);
    refused(vec![empty("a"), empty("a")]);
    refused(vec![empty("a"), Action::Remove { path: path("large") }]);
    refused(vec![Action::Remove { path: path("directory") }, Action::Remove { path: path("directory/file") }]);
    refused(vec![
        Action::Rename { from: path("large"), to: path("a") },
        Action::Rename { from: path("large"), to: path("b") },
    ]);
    refused(vec![Action::Rename { from: path("directory"), to: path("directory/below") }]);
    refused(vec![empty("large")]);
    refused(vec![Action::Remove { path: RelPath::root() }]);
    refused(vec![Action::Rename { from: RelPath::root(), to: path("root") }]);
    let mut victim = Victim::new();
    let mut generation = victim.forged(vec![(empty("a"), None), (empty("b"), None)]);
    generation.operations[1].0.id = 0;
    let told = victim.refuses(&generation.sealed());
    assert!(told.contains("numbered"), "{told}");
}

#[test]
fn attributes_that_nothing_can_have_are_refused_before_the_ack() {
    let change = |change: fn(&mut Entry)| {
        let mut entry = entry(file(b""));
        change(&mut entry);
        Action::Create { path: path("new"), entry, content: Content::None, sparse: false }
    };
    refused(vec![change(|entry| entry.mtime.nanoseconds = u32::MAX)]);
    refused(vec![change(|entry| entry.uid = u32::MAX)]);
    refused(vec![change(|entry| entry.gid = u32::MAX)]);
    refused(vec![change(|entry| entry.mode = u16::MAX)]);
    refused(vec![change(|entry| entry.body = Body::Symlink { target: (*b"a\0b").into() })]);
    refused(vec![change(|entry| entry.body = Body::Symlink { target: vec![b'a'; 5000].into() })]);
    refused(vec![change(|entry| entry.body = file(b"not empty"))]);
}

#[test]
fn a_payload_is_as_long_as_announced_and_belongs_to_something() {
    let whole = |content| Action::Create { path: path("new"), entry: entry(file(b"content")), content, sparse: false };
    for (action, payload) in [
        (whole(Content::Whole), None),
        (whole(Content::Whole), Some(b"garbage".to_vec())),
        (whole(Content::Whole), Some(Vec::new())),
        (whole(Content::None), Some(b"content".to_vec())),
        (whole(Content::Held), Some(b"content".to_vec())),
        (empty("new"), Some(b"content".to_vec())),
        (Action::Remove { path: path("large") }, Some(b"content".to_vec())),
    ] {
        let mut victim = Victim::new();
        let generation = victim.forged(vec![(action, payload)]);
        victim.refuses(&generation);
    }
    // Too many bytes, or too few before the next operation.
    let mut victim = Victim::new();
    fs::write(victim.ground.source().join("a"), Dice::new(9).noise(5000)).unwrap();
    let mut generation = victim.primary.generation();
    generation.operations[0].1.as_mut().unwrap().push(0);
    let bytes = generation.operations[0].1.clone().unwrap();
    let mut stager = victim.replica.begin(&generation.header).unwrap();
    victim.replica.stage(&mut stager, generation.operations[0].0.clone()).unwrap();
    let told = victim.replica.stage_payload(&mut stager, &bytes).unwrap_err();
    assert!(matches!(told, ReplicaError::Payload { .. }), "{told:?}");
    victim.replica.give_up(stager).unwrap();
    let mut stager = victim.replica.begin(&generation.header).unwrap();
    victim.replica.stage(&mut stager, generation.operations[0].0.clone()).unwrap();
    assert!(!victim.replica.stage_payload(&mut stager, &bytes[..1]).unwrap());
    assert!(stager.awaits_payload());
    victim.replica.stage(&mut stager, generation.operations[1].0.clone()).unwrap_err();
    victim.replica.give_up(stager).unwrap();
    assert_eq!(victim.ground.litter(), Vec::<String>::new());
}

#[test]
fn content_that_is_not_what_was_announced_is_a_mismatch_and_can_be_sent_again() {
    let mut victim = Victim::new();
    fs::write(victim.ground.source().join("a"), Dice::new(9).noise(5000)).unwrap();
    let good = victim.primary.generation();
    let mut bad = good.clone();
    let Action::Create { entry, .. } = &mut bad.operations[0].0.action else { panic!("a is created") };
    entry.body = Body::File { size: 5000, digest: Digest::of(b"something else"), proof: Proof::Hashed };
    let Err(told) = stage(&mut victim.replica, &bad.sealed(), &mut Dice::new(1)) else { panic!("taken") };
    assert!(matches!(told, ReplicaError::Mismatch { .. }), "{told:?}");
    assert_eq!(differences(&victim.look, &victim.ground.look()), Vec::<String>::new());
    // The replica need not be opened again for that.
    take(&mut victim.replica, &good, &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&victim.ground.look_at_source(), &victim.ground.look()), Vec::<String>::new());
}

#[test]
fn content_that_is_not_here_is_lacking() {
    let mut victim = Victim::new();
    let held = Action::Create {
        path: path("new"),
        entry: entry(file(&Dice::new(77).noise(9000))),
        content: Content::Held,
        sparse: false,
    };
    let generation = victim.forged(vec![(held, None)]);
    assert!(victim.refuses(&generation).contains("Lacking"));
}

#[test]
fn content_that_came_ahead_is_believed_only_if_it_is_what_its_name_says() {
    for (kept, is_whole) in [(Dice::new(77).noise(9000), true), (vec![0; 9000], false), (Vec::new(), false)] {
        let mut victim = Victim::new();
        let content = Dice::new(77).noise(9000);
        fs::write(victim.ground.source().join("new"), &content).unwrap();
        let mut generation = victim.primary.generation();
        let (operation, payload) = &mut generation.operations[0];
        let Action::Create { content: from, .. } = &mut operation.action else { panic!("it is created") };
        *from = Content::Held;
        (operation.payload, *payload) = (None, None);
        fs::write(victim.ground.replica().join(format!(".hotspare/stage/held/{}", Digest::of(&content))), kept)
            .unwrap();
        let taken = take(&mut victim.replica, &generation.sealed(), &mut Dice::new(1));
        if is_whole {
            taken.unwrap();
            assert_eq!(differences(&victim.ground.look_at_source(), &victim.ground.look()), Vec::<String>::new());
        } else {
            assert!(matches!(taken, Err(ReplicaError::Lacking { .. })), "{taken:?}");
        }
    }
}

#[test]
fn an_edit_of_a_file_that_was_changed_by_hand_is_a_mismatch() {
    for (by_hand, edit) in [(700_000, "append"), (3, "append"), (700_000, "patch")] {
        let Victim { ground, mut replica, mut primary, .. } = Victim::new();
        let large = fs::OpenOptions::new().write(true).open(ground.source().join("large")).unwrap();
        match edit {
            "append" => std::os::unix::fs::FileExt::write_all_at(&large, b"more", 1_200_000).unwrap(),
            _ => std::os::unix::fs::FileExt::write_all_at(&large, b"patch", 10_000).unwrap(),
        }
        let generation = primary.generation();
        assert!(matches!(generation.operations[0].0.action, Action::Edit { .. }));
        let copy = fs::OpenOptions::new().write(true).open(ground.replica().join("large")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&copy, &[0; 500_000], by_hand).unwrap();
        let look = ground.look();
        let Err(told) = stage(&mut replica, &generation, &mut Dice::new(1)) else { panic!("taken: {by_hand}, {edit}") };
        assert!(matches!(told, ReplicaError::Mismatch { .. }), "{told:?}");
        assert_eq!(differences(&look, &ground.look()), Vec::<String>::new());
    }
}

#[test]
fn span_lists_of_any_shape_are_judged_quickly() {
    let new_length = 1_200_000;
    let many: Vec<Span> = (0..200_000).map(|at| Span { offset: at * 6, len: 1 }).collect();
    let shapes = [
        vec![Span { offset: u64::MAX, len: u64::MAX }],
        vec![Span { offset: 0, len: u64::MAX }, Span { offset: 1, len: 2 }],
        vec![Span { offset: 5, len: 1 }, Span { offset: 0, len: 1 }],
        vec![Span { offset: 0, len: 0 }],
        vec![],
        many,
    ];
    for spans in shapes {
        let victim = Victim::new();
        let sum = spans.iter().fold(0_u64, |sum, span| sum.wrapping_add(span.len));
        let payload = vec![0; usize::try_from(sum.min(500_000)).unwrap()];
        let mut packed = Vec::new();
        let mut packer = crate::thought::delta::pack::Packer::new(&mut packed, Default::default());
        packer.write(&payload).unwrap();
        let counted = packer.finish().unwrap();
        let action = Action::Edit {
            path: path("large"),
            entry: entry(Body::File { size: new_length, digest: Digest::of(b"?"), proof: Proof::Hashed }),
            old_length: 1_200_000,
            spans,
            probes: None,
        };
        let mut victim = victim;
        let mut generation = victim.forged(vec![(action, Some(packed))]);
        generation.operations[0].0.payload =
            Some(Payload { length: counted.packed_bytes, unpacked: counted.raw_bytes });
        victim.refuses(&generation.sealed());
    }
}

#[test]
fn a_generation_that_leads_elsewhere_than_it_says_is_refused_and_the_old_one_stands() {
    let mut victim = Victim::new();
    let mut generation = victim.forged(vec![(empty("new"), None)]);
    generation.header.tree_after = Digest::of(b"elsewhere");
    let standing = victim.replica.standing();
    ack(&mut victim.replica, &generation, &mut Dice::new(1)).unwrap_err();
    // What is half changed in memory is used for nothing more.
    assert!(matches!(victim.replica.begin(&generation.header), Err(ReplicaError::Unusable)));
    assert!(matches!(victim.replica.tidy(), Err(ReplicaError::Unusable)));
    assert!(!victim.replica.is_promotable());
    drop(victim.replica);
    let replica = victim.ground.open();
    assert_eq!(replica.standing(), standing);
    assert_eq!(differences(&victim.look, &victim.ground.look()), Vec::<String>::new());
}

#[test]
fn a_header_that_does_not_fit_is_refused_before_anything_is_staged() {
    let mut victim = Victim::new();
    let generation = victim.forged(vec![(empty("new"), None)]);
    let mut refused = |change: fn(&mut crate::thought::generation::Header)| {
        let mut header = generation.header.clone();
        change(&mut header);
        victim.replica.begin(&header).err().map(|error| format!("{error:?}")).expect("it must be refused")
    };
    assert!(refused(|header| header.home = HomeId([9; 16])).contains("another home"));
    assert!(refused(|header| header.parent_chain = Default::default()).contains("NotNext"));
    assert!(refused(|header| header.position.generation -= 1).contains("another generation"));
    assert_eq!(victim.ground.litter(), Vec::<String>::new());
    let mut short = generation.clone();
    short.header.operations += 1;
    assert!(victim.refuses(&short).contains("digest"));
}
