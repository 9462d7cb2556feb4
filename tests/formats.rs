//! Frozen bytes of every format that leaves a process: what was written once must be readable for ever, and must be written so still.
//!
//! A fixture is a file of lines `name hex`. `HOTSPARE_WRITE_FIXTURES=1 cargo test --test formats` writes those that are missing; an existing
//! one is never changed: a new version of a format gets a new file. (The journal's own fixture stands beside its tests.)

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotspare::thought::delta::Span;
use hotspare::thought::delta::probe::{ProbePlan, Probes};
use hotspare::thought::digest::ContentHasher;
use hotspare::thought::filter::Rules;
use hotspare::thought::generation::{
    Action, Claim, Content, Extension, Header, Joint, JournalledOperation, NamedPaths, Operation, Payload, PreImage,
    Quality, Reason,
};
use hotspare::thought::session::judge;
use hotspare::thought::store::{MemoryStore, ReadStore, Table};
use hotspare::thought::tree::{FileMemory, Row, Tree};
use hotspare::thought::wire::frame::{Frame, body, encode_body};
use hotspare::thought::wire::message::{
    Abilities, Acked, Audit, Audited, Begun, CatchingUp, Child, Deposed, Differing, Have, Heartbeat, Held, HeldAll,
    HeldBy, HeldContent, Hello, Lack, List, Listing, Message, Refused, RefusedWhy, Rejected, Release, Revealed, Role,
    Sign, Signed, StreamStart, Swept, UnheldCounts, Wanted,
};
use hotspare::words::entry::{Body, Digest, Entry, Inode, InodeId, Kind, LinkId, Proof, Timestamp, Xattr, Xattrs};
use hotspare::words::path::{Name, RelPath};
use hotspare::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, NodeName, Position, Reign, ReignId};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The frozen bytes in `file`, by name.
fn frozen_file(file: &str) -> BTreeMap<String, Vec<u8>> {
    let text =
        std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)).unwrap();
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    pairs.map(|(name, hex)| (name.to_owned(), unhex(hex))).collect()
}

/// The frozen bytes in `file`, by name; those of `now` are compared with them.
fn frozen(file: &str, now: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    if !path.exists() && std::env::var_os("HOTSPARE_WRITE_FIXTURES").is_some() {
        let text: String = now.iter().map(|(name, bytes)| format!("{name} {}\n", hex(bytes))).collect();
        #[expect(clippy::disallowed_methods, reason = "a fixture is written by hand, once")]
        std::fs::write(&path, text).unwrap();
    }
    let frozen = frozen_file(file);
    for (name, bytes) in &frozen {
        assert_eq!(
            now.get(name).map(|bytes| hex(bytes)),
            Some(hex(bytes)),
            "{file}: {name} is written in another way now"
        );
    }
    assert_eq!(frozen.len(), now.len(), "{file}: not all is frozen");
    frozen
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 123_456_789 }
}

fn entry() -> Entry {
    Entry {
        body: Body::File { size: 2_000_000, digest: Digest([3; 32]), proof: Proof::Probed },
        mode: 0o4755,
        uid: 1000,
        gid: 1001,
        mtime: time(-5),
        xattrs: Xattrs::new(vec![Xattr { name: (*b"user.a").into(), value: (*b"\0\xff").into() }]),
        link: Some(LinkId(77)),
    }
}

fn probes() -> Probes {
    let content = vec![7_u8; 1 << 20];
    let plan = ProbePlan::new(1 << 20, &[1; 32], b"identity").unwrap();
    Probes::take(&content, &plan).unwrap().unwrap()
}

fn header() -> Header {
    Header {
        required_features: 0,
        optional_features: 5,
        cluster: ClusterId([1; 16]),
        home: HomeId([2; 16]),
        reign: ReignId([3; 16]),
        position: Position { epoch: 3, generation: 18_422 },
        parent: Position { epoch: 3, generation: 18_421 },
        parent_chain: ChainDigest(Digest([4; 32])),
        joint: Joint::CatchUp { chain: ChainDigest(Digest([5; 32])) },
        tree_before: Digest([6; 32]),
        tree_after: Digest([7; 32]),
        quality: Quality::Fuzzy(vec![Reason::Overflow, Reason::Conflict]),
        deferred: NamedPaths { sample: vec![path("jobs/a/log")], count: 2 },
        filter: Digest([8; 32]),
        cut_time: time(1_700_000_000),
        oldest_change: time(1_699_999_999),
        operations: 6,
        operations_digest: Digest([9; 32]),
        extensions: vec![Extension { tag: 1, bytes: vec![1, 2, 3] }],
    }
}

fn operations() -> Vec<Operation> {
    let payload = Some(Payload { length: 100, unpacked: 300 });
    let delta = Content::Delta { base: Digest([8; 32]), base_length: 70_000 };
    let symlink = Entry { body: Body::Symlink { target: (*b"../x").into() }, mode: 0o777, link: None, ..entry() };
    let directory = Entry { body: Body::Directory, link: None, ..entry() };
    let create = |name: &str, entry: Entry, content| Action::Create { path: path(name), entry, content, sparse: true };
    let actions = [
        (Action::Rename { from: path("a/b"), to: path("c") }, None),
        (Action::Remove { path: RelPath::parse(b"not\xffutf8\n").unwrap() }, None),
        (create("d", directory, Content::None), None),
        (create("e", symlink, Content::None), None),
        (create("f", entry(), Content::Whole), payload),
        (create("g", entry(), delta), payload),
        (create("h", entry(), Content::Held), None),
        (Action::Link { path: path("i"), target: path("h"), entry: entry() }, None),
        (
            Action::Edit {
                path: path("log"),
                entry: entry(),
                old_length: 1 << 20,
                spans: vec![Span { offset: 1 << 20, len: 300 }],
                probes: Some(probes()),
            },
            payload,
        ),
        (Action::Attributes { path: path("m"), entry: entry() }, None),
        (Action::Forget { path: path("n") }, None),
    ];
    (0..).zip(actions).map(|(id, (action, payload))| Operation { id, action, payload }).collect()
}

#[test]
fn generations_of_version_1_are_read_and_written_as_ever() {
    let mut now = BTreeMap::from([("header".to_owned(), header().encode())]);
    for operation in operations() {
        now.insert(format!("operation-{:02}", operation.id), operation.encode());
    }
    let frozen = frozen("generation-v1.hex", &now);
    assert_eq!(Header::decode(&frozen["header"]).unwrap(), header());
    assert_eq!(header().chain(), ChainDigest(Digest([5; 32])));
    for operation in operations() {
        assert_eq!(Operation::decode(&frozen[&format!("operation-{:02}", operation.id)]).unwrap(), operation);
    }
}

#[test]
fn headers_of_a_later_version_or_with_unknown_needs_are_refused_by_name() {
    let mut later = header().encode();
    later[0] = 2;
    assert!(Header::decode(&later).unwrap_err().to_string().contains("newer"));
    let needy = Header { required_features: 1 << 40, ..header() };
    assert!(Header::decode(&needy.encode()).unwrap_err().to_string().contains("features"));
    let mut trailing = header().encode();
    trailing.push(0);
    assert!(Header::decode(&trailing).is_err());
}

#[test]
fn journalled_operations_of_version_1_are_read_and_written_as_ever() {
    let images = [
        PreImage::None,
        PreImage::Taken { entry: entry() },
        PreImage::Attributes { entry: entry() },
        PreImage::Edited { entry: entry(), old_length: 5, old_blocks: vec![Span { offset: 1, len: 2 }] },
    ];
    let all: Vec<_> = images
        .into_iter()
        .zip(operations())
        .map(|(before, operation)| JournalledOperation {
            operation,
            before,
            inode: Some(InodeId { dev: 64_769, ino: 1_234_567 }),
        })
        .collect();
    let name = |index: usize| format!("journalled-{index}");
    let now = all.iter().enumerate().map(|(index, operation)| (name(index), operation.encode())).collect();
    let frozen = frozen("journalled-v1.hex", &now);
    for (index, operation) in all.iter().enumerate() {
        assert_eq!(&JournalledOperation::decode(&frozen[&name(index)]).unwrap(), operation);
    }
}

fn messages() -> Vec<Message> {
    let reign = Reign {
        id: ReignId([3; 16]),
        epoch: 3,
        parent: Some(ReignId([2; 16])),
        fork: Position { epoch: 2, generation: 9 },
    };
    let position = Position { epoch: 3, generation: 18_422 };
    let chain = ChainDigest(Digest([4; 32]));
    let child = Child { name: Name::parse(b"a").unwrap(), entry: entry(), digest: Digest([1; 32]) };
    vec![
        Hello {
            protocols: (1, 1),
            node: NodeName::try_from("jenkins-a".to_owned()).unwrap(),
            instance: InstanceNonce([9; 16]),
            cluster: Some(ClusterId([1; 16])),
            home: None,
            reigns: vec![reign],
            role: Role::Standby,
            position,
            chain,
            tree: Digest([6; 32]),
            limits: (1 << 20, 1 << 21),
            filter: Rules { temporaries: true, patterns: vec!["/war/".into(), "!*.keep".into()] },
            abilities: Abilities { owners: true, capabilities: false, user_xattrs: true, acls: false },
            features: 0,
            needs: 0,
            extensions: vec![Extension { tag: 7, bytes: vec![1, 2] }],
        }
        .into(),
        Refused { why: RefusedWhy::Reign, text: "no".into() }.into(),
        Heartbeat {
            position,
            pending: 3,
            oldest: Some(time(5)),
            sample: vec![path("x")],
            unrevealed: 1,
            lag_milliseconds: Some(250),
            unheld: UnheldCounts { owner: 2, mode: 3, xattrs: 4 },
            next_id: Some(Digest([5; 32])),
            accepted_id: Some(Digest([6; 32])),
            held: Some(Held { by: HeldBy::Fuse, text: "too much".into() }),
        }
        .into(),
        Deposed { reign }.into(),
        Acked { position, chain }.into(),
        Revealed { position }.into(),
        Rejected { position, text: "no".into() }.into(),
        List { path: path("a"), after: Some(Name::parse(b"b").unwrap()) }.into(),
        Listing { directory: Some((entry(), Digest([2; 32]))), children: vec![child], more: true }.into(),
        Have { contents: vec![Digest([1; 32])] }.into(),
        Lack { bits: vec![1], begun: vec![Begun { index: 0, bytes: 300 }], holds: true }.into(),
        HeldAll { count: 7 }.into(),
        Audit { paths: vec![path("jobs")], content: true, mend: false }.into(),
        Audited {
            position,
            tree: Digest([6; 32]),
            entries: 5,
            differing: 1,
            unheld: UnheldCounts { owner: 4, ..UnheldCounts::default() },
            differences: vec![Differing {
                path: path("a"),
                kind: Some(Kind::File),
                what: "mode".into(),
                tree: "0644".into(),
                disk: "0600".into(),
            }],
            strayed: 2,
            failed: None,
        }
        .into(),
        CatchingUp { from: position, phase: "comparing".into(), entries: (1, 2), bytes: (3, 4) }.into(),
        Sign { content: Digest([1; 32]), size: 300 }.into(),
        Signed { signature: vec![1, 2, 3] }.into(),
        Wanted { contents: vec![[1; 8], [2; 8]], more: true }.into(),
        Swept { contents: 300 }.into(),
        Release {}.into(),
    ]
}

#[test]
fn messages_of_protocol_1_are_read_and_written_as_ever() {
    let name = |kind: u8| format!("message-{kind:02}");
    let encoded: Vec<_> = messages().iter().map(|message| message.encode().unwrap()).collect();
    let mut now: BTreeMap<_, _> = encoded.iter().map(|(kind, payload)| (name(*kind), payload.clone())).collect();
    let starts = [StreamStart::Generation { header: vec![1, 2] }, StreamStart::Contents];
    for (index, start) in starts.iter().enumerate() {
        now.insert(format!("start-{index}"), encode_body(start).unwrap());
    }
    let payload = Payload { length: 5, unpacked: 9 };
    let held = HeldContent {
        digest: Digest([1; 32]),
        size: 9,
        sparse: true,
        mode: 0o644,
        mtime: time(5),
        payload,
        from: 4,
        base: Some((Digest([2; 32]), 300)),
    };
    now.insert("held".to_owned(), encode_body(&held).unwrap());
    let mut frame = Vec::new();
    Frame { kind: 5, payload: b"payload" }.encode(1 << 20, &mut frame).unwrap();
    now.insert("frame".to_owned(), frame);
    let frozen = frozen("protocol-v1.hex", &now);
    for (message, (kind, _)) in messages().into_iter().zip(encoded) {
        assert_eq!(Message::decode(kind, &frozen[&name(kind)]).unwrap(), Some(message));
    }
    assert_eq!(body::<HeldContent>(&frozen["held"]).unwrap(), held);
    assert_eq!(Message::decode(200, b"").unwrap(), None);
}

#[test]
fn the_hello_of_version_1_is_understood_by_later_versions_and_answered_by_name() {
    let frozen = frozen_file("protocol-v1.hex");
    let Ok(Some(Message::Hello(hello))) = Message::decode(1, &frozen["message-01"]) else { panic!("no hello") };
    let (name, role) = (NodeName::try_from("jenkins-b".to_owned()).unwrap(), Role::Primary);
    let later = |protocols| Hello { protocols, node: name.clone(), role, ..hello.clone() };
    assert_eq!(judge(&later((1, 2)), &hello), Ok(1), "the highest that both speak");
    assert_eq!(judge(&hello, &later((1, 2))), Ok(1));
    for (ours, theirs) in [(&later((2, 3)), &hello), (&hello, &later((2, 3)))] {
        let refused = judge(ours, theirs).unwrap_err();
        assert_eq!(refused.why, RefusedWhy::Protocol);
        assert!(refused.text.ends_with("upgrade hotspare on jenkins-a"), "{}", refused.text);
    }
    let needy = Hello { needs: 1 << 40, ..later((1, 1)) };
    let refused = judge(&hello, &needy).unwrap_err();
    assert_eq!(refused.why, RefusedWhy::Protocol);
    assert!(refused.text.contains("jenkins-b needs") && refused.text.contains("0x10000000000"), "{}", refused.text);
    assert!(refused.text.ends_with("upgrade hotspare on jenkins-a"), "{}", refused.text);
    let features = Hello { features: u64::MAX, ..later((1, 1)) };
    assert_eq!(judge(&hello, &features), Ok(1), "what can be done without is no reason");
}

#[test]
fn the_index_of_version_1_is_read_and_written_as_ever() {
    let inode = |ino| Inode { id: InodeId { dev: 1, ino }, nlink: 1, ctime: time(7), btime: Some(time(6)) };
    let directory = Entry { body: Body::Directory, link: None, ..entry() };
    let mut tree = Tree::open(MemoryStore::default(), Row::new(directory.clone(), inode(1))).unwrap();
    tree.attach(&path("d"), Row::new(directory, inode(2))).unwrap();
    let mut hasher = ContentHasher::new();
    hasher.update(&vec![7; 1 << 20]);
    let memory = FileMemory { frontier: hasher.finish().frontier, probes: probes() };
    let row = Row { memory: Some(Box::new(memory)), ..Row::new(entry(), inode(3)) };
    tree.attach(&path("d/f"), row.clone()).unwrap();
    let digest = tree.digest().unwrap();
    let mut now = BTreeMap::from([("tree-digest".to_owned(), digest.0.to_vec())]);
    for table in Table::ALL {
        for pair in tree.store().scan(table, b"", None, usize::MAX).unwrap() {
            now.insert(format!("{table:?}-{}", hex(&pair.key)).to_lowercase(), pair.value);
        }
    }
    let deferred = NamedPaths { sample: vec![path("jobs/a/log")], count: 2 };
    let claim = Claim { quality: Quality::Fuzzy(vec![Reason::Conflict, Reason::Polled]), deferred };
    now.insert("claim".to_owned(), claim.encode());
    let frozen = frozen("index-v1.hex", &now);
    assert_eq!(Claim::decode(&frozen["claim"]), Some(claim));
    assert_eq!(tree.row(&path("d/f")).unwrap(), Some(row));
}
