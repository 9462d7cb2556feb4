use super::*;
use crate::thought::generation::{Joint, NamedPaths, Quality, Section};
use crate::words::entry::{Digest, Timestamp};
use crate::words::position::{ClusterId, HomeId, ReignId};

/// Generations one after the other, as a primary makes them.
struct Maker {
    directory: tempfile::TempDir,
    head: (Position, ChainDigest),
}

impl Maker {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            head: (Position { epoch: 1, generation: 0 }, ChainDigest::default()),
        }
    }

    /// The next, with a payload of so many bytes, each of them its own number.
    fn next(&mut self, payload_bytes: usize) -> Arc<Shipment> {
        let (parent, parent_chain) = self.head;
        let position = Position { generation: parent.generation + 1, ..parent };
        let header = Header {
            required_features: 0,
            optional_features: 0,
            cluster: ClusterId([1; 16]),
            home: HomeId([2; 16]),
            reign: ReignId([3; 16]),
            position,
            parent,
            parent_chain,
            joint: Joint::Next,
            tree_before: Digest::default(),
            tree_after: Digest::default(),
            quality: Quality::Consistent,
            deferred: NamedPaths::default(),
            filter: Digest::default(),
            cut_time: Timestamp::default(),
            oldest_change: Timestamp { seconds: i64::try_from(position.generation).unwrap(), nanoseconds: 0 },
            operations: 1,
            operations_digest: Digest::default(),
            extensions: Vec::new(),
        };
        self.head = (position, header.chain());
        let mut records = Records::new(Spool::create(self.directory.path()).unwrap());
        records.push(Section::Create, &position.generation.to_le_bytes()).unwrap();
        let mut payloads = Spool::create(self.directory.path()).unwrap();
        payloads.write_all(&vec![mark(position); payload_bytes]).unwrap();
        Arc::new(Shipment {
            header,
            operations: Operations::new(records).unwrap(),
            payloads: payloads.reader(),
            payload_bytes: payloads.end(),
        })
    }

    fn push(&mut self, window: &mut Window, payload_bytes: usize) {
        window.push(self.next(payload_bytes));
        let surplus = window.surplus();
        if !surplus.is_empty() {
            window.replace(gather(self.directory.path(), &surplus).unwrap());
        }
    }
}

fn mark(position: Position) -> u8 {
    u8::try_from(position.generation % 251).unwrap()
}

/// Follows the window from `from` to its head as a session does, and checks every byte; how many generations that were, or `None` if it is too late.
fn follow(window: &Window, mut from: (Position, ChainDigest)) -> Option<usize> {
    let mut count = 0;
    loop {
        match window.after(from) {
            Next::Wait => return Some(count),
            Next::CatchUp => return None,
            Next::Shipment(shipment) => {
                let position = shipment.header.position;
                let mut seen = 0;
                let mut visit = |record: &[u8]| {
                    seen += 1;
                    assert_eq!(record, position.generation.to_le_bytes());
                    Ok(())
                };
                shipment.operations.all(&mut visit).unwrap();
                let mut payload = vec![0; usize::try_from(shipment.payload_bytes).unwrap()];
                assert_eq!(read_full(&shipment.payloads, &mut payload, 0).unwrap(), payload.len());
                assert!(seen == 1 && payload.iter().all(|&byte| byte == mark(position)), "{position}");
                from = (position, shipment.header.chain());
                count += 1;
            }
        }
    }
}

#[test]
fn a_window_is_bounded_in_memory_disk_generations_and_files_whatever_comes() {
    let limits = WindowLimits { memory_bytes: 1 << 20, disk_bytes: 8 << 20, ..WindowLimits::default() };
    // Tiny ones, some that just stay in memory, some with files of their own, some as long as a segment; and a mixture.
    let of_sizes: [&[usize]; 5] = [&[1], &[200 << 10], &[300 << 10], &[17 << 20], &[0, 10, 300 << 10, 5000, 1 << 20]];
    for sizes in of_sizes {
        let mut maker = Maker::new();
        let mut window = Window::new(limits, maker.head);
        let before = maker.head;
        for round in 0..400 {
            maker.push(&mut window, sizes[round % sizes.len()]);
            let taken = window.taken();
            assert!(taken.memory_bytes <= limits.memory_bytes, "{sizes:?}: {taken:?}");
            assert!(taken.disk_bytes <= limits.disk_bytes || taken.generations == 1, "{sizes:?}: {taken:?}");
            assert!(taken.files <= LOOSE_FILES + 1, "{sizes:?}: {taken:?}");
            if sizes[0] > 1 << 20 && round > 20 {
                break;
            }
        }
        // What is in it is whole, wherever it went; what fell out is told.
        let taken = window.taken();
        let oldest = window.kept[0].shipment.header.clone();
        assert_eq!(follow(&window, (oldest.parent, oldest.parent_chain)), Some(taken.generations), "{sizes:?}");
        let is_whole = oldest.parent == before.0;
        assert_eq!(follow(&window, before).is_some(), is_whole, "{sizes:?}");
        assert_eq!(window.oldest_change_after(oldest.position).map(|at| at.seconds), {
            (taken.generations > 1).then(|| i64::try_from(oldest.position.generation + 1).unwrap())
        });
    }
}

#[test]
fn more_generations_than_are_kept_fall_out_and_descriptors_are_given_back() {
    let mut maker = Maker::new();
    let mut window = Window::new(WindowLimits { memory_bytes: 64 << 10, ..WindowLimits::default() }, maker.head);
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = files();
    for _ in 0..GENERATIONS + 500 {
        maker.push(&mut window, 30);
    }
    let taken = window.taken();
    assert_eq!(taken.generations, GENERATIONS);
    assert!(taken.memory_bytes <= 64 << 10 && taken.files <= FILES, "{taken:?}");
    // Other tests open files meanwhile.
    assert!(files() < before + FILES + 100, "{} descriptors", files());
}

#[test]
fn another_history_is_never_gone_on_with() {
    let mut maker = Maker::new();
    let mut window = Window::new(WindowLimits::default(), maker.head);
    for _ in 0..10 {
        maker.push(&mut window, 10);
    }
    let at = (Position { epoch: 1, generation: 5 }, ChainDigest::default());
    assert!(matches!(window.after(at), Next::CatchUp), "the position alone says nothing");
    let next = window.kept[5].shipment.header.clone();
    assert!(matches!(window.after((next.parent, next.parent_chain)), Next::Shipment(_)));
    window.skip_to(maker.head);
    assert!(matches!(window.after((next.parent, next.parent_chain)), Next::CatchUp));
    assert!(matches!(window.after(maker.head), Next::Wait));
}

#[test]
fn what_was_not_made_or_made_otherwise_contradicts_the_window() {
    let (mut maker, mut window) = (Maker::new(), Window::new(WindowLimits::default(), Maker::new().head));
    let mut heads = vec![maker.head];
    for _ in 0..3 {
        maker.push(&mut window, 10);
        heads.push(maker.head);
    }
    assert!(heads.iter().all(|head| !window.contradicts(*head)));
    let at = |epoch, generation| Position { epoch, generation };
    let other = ChainDigest(Digest::of(b"another history"));
    assert!(window.contradicts((at(1, 2), other)), "it was made otherwise");
    assert!(window.contradicts((at(1, 4), other)), "it was not made yet");
    assert!(!window.contradicts((at(1, 0), other)), "of an earlier run");
    assert!(!window.contradicts((at(0, 9), other)), "of an earlier reign");
    assert!(!window.contradicts((at(2, 1), other)), "of a later reign: that is for the hello to judge");
}
