//! Large files: left by one cut, sent ahead, taken by another.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bench::{BACKENDS, Bench, noise, path};
use crate::capture::{Cut, Joined, Larges, Offer, read_large};
use crate::fs::Root;
use crate::thought::generation::{Action, Content, Quality};
use crate::words::position::NodeName;

const LARGE: usize = 1 << 20;

fn standby(name: &str) -> NodeName {
    NodeName::try_from(name.to_owned()).unwrap()
}

/// A home whose cuts leave what is large, for a standby at the live edge.
fn bench() -> (Bench, Arc<Larges>, Joined) {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("small", "x");
    bench.settle();
    let larges = Arc::new(Larges::new(LARGE as u64));
    bench.larges = Some(Arc::clone(&larges));
    let joined = larges.join(standby("b"));
    (bench, larges, joined)
}

fn large(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length)
}

/// Reads what is to be read, as the reader's thread does; a second passes meanwhile with every look.
fn read(bench: &Bench, larges: &Larges) {
    let clock = passing();
    let unread = larges.next_to_read(&clock).unwrap();
    let read = read_large(&Root::open(&bench.home).unwrap(), &unread, &[7; 32]);
    larges.was_read(&unread, read);
}

/// A clock that goes on by a second with every look at it.
fn passing() -> impl Fn() -> Instant {
    let now = std::cell::Cell::new(some_instant());
    move || {
        now.set(now.get() + Duration::from_secs(1));
        now.get()
    }
}

fn some_instant() -> Instant {
    Instant::now()
}

/// Hands the standby a content that it was offered.
fn send(bench: &mut Bench, larges: &Larges, offer: &Offer) {
    let content = fs::read(bench.at(&offer.path.to_string())).unwrap();
    bench.standby.contents.insert(offer.digest, content);
    larges.is_held(offer.digest, &standby("b"), some_instant());
}

fn deferred(cut: &Cut) -> Vec<String> {
    cut.deferred.sample.iter().map(ToString::to_string).collect()
}

#[test]
fn a_large_new_file_is_left_by_one_cut_and_taken_by_another_without_being_read() {
    let (mut bench, larges, _joined) = bench();
    bench.make("d/large", large(1, 3 * LARGE));
    bench.make("other", "y");
    let cut = bench.cut();
    larges.keep(&cut.later);
    assert_eq!((cut.quality.clone(), deferred(&cut)), (Quality::Partial, vec!["d/large".to_owned()]));
    assert!(bench.has("d") && bench.has("other") && !bench.has("d/large"));
    assert!(bench.read_bytes < 100, "{} bytes were read", bench.read_bytes);
    // Nobody has it yet.
    assert!(!larges.settle(some_instant()));
    assert!(larges.next_for(&standby("b")).is_none());
    read(&bench, &larges);
    let offer = larges.next_for(&standby("b")).unwrap();
    assert_eq!((offer.path.clone(), offer.size), (path("d/large"), 3 * LARGE as u64));
    assert!(!larges.settle(some_instant()));
    assert!(!bench.has("d/large") && bench.cut().steps.is_empty());
    send(&mut bench, &larges, &offer);
    assert!(larges.next_for(&standby("b")).is_none());
    assert!(larges.settle(some_instant()));
    let cut = bench.cut();
    larges.keep(&cut.later);
    assert_eq!(cut.quality, Quality::Consistent, "{:?}", cut.deferred);
    let actions: Vec<_> = cut.steps.iter().map(|step| &step.operation).collect();
    let is_held = |action: &Action| matches!(action, Action::Create { content: Content::Held, .. });
    assert!(matches!(actions.as_slice(), [one] if is_held(&one.action) && one.payload.is_none()), "{actions:#?}");
    assert!(bench.read_bytes < 100 && larges.is_empty());
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_large_file_that_changed_since_it_was_read_is_not_taken() {
    let (mut bench, larges, _joined) = bench();
    bench.make("large", large(2, 2 * LARGE));
    larges.keep(&bench.cut().later);
    read(&bench, &larges);
    let offer = larges.next_for(&standby("b")).unwrap();
    send(&mut bench, &larges, &offer);
    assert!(larges.settle(some_instant()));
    bench.make("large", large(3, 2 * LARGE));
    let cut = bench.cut();
    larges.keep(&cut.later);
    assert_eq!(deferred(&cut), ["large"]);
    assert!(!bench.has("large"));
    // And one that changes while it waits to be read is not offered.
    let clock = passing();
    let unread = larges.next_to_read(&clock).unwrap();
    bench.make("large", large(4, 2 * LARGE));
    let read = read_large(&Root::open(&bench.home).unwrap(), &unread, &[7; 32]);
    assert!(matches!(read, Ok(None)));
    larges.was_read(&unread, read);
    assert!(larges.settle(some_instant()), "a cut is due, whatever tells of it");
}

#[test]
fn a_large_file_that_cannot_be_read_is_for_the_cut_to_tell() {
    let (mut bench, larges, _joined) = bench();
    bench.make("large", large(10, 2 * LARGE));
    larges.keep(&bench.cut().later);
    let unread = larges.next_to_read(&passing()).unwrap();
    larges.was_read(&unread, Err(()));
    assert!(larges.settle(some_instant()) && !larges.settle(some_instant()));
    let cut = bench.cut();
    larges.keep(&cut.later);
    assert_eq!(cut.quality, Quality::Consistent, "it could be read after all");
    bench.assert_same();
}

#[test]
fn for_nobody_at_the_live_edge_nothing_is_left() {
    let (mut bench, larges, joined) = bench();
    bench.make("large", large(5, 2 * LARGE));
    larges.keep(&bench.cut().later);
    assert!(!larges.settle(some_instant()));
    drop(joined);
    assert!(larges.settle(some_instant()), "a cut is due");
    let cut = bench.cut();
    larges.keep(&cut.later);
    assert_eq!(cut.quality, Quality::Consistent);
    assert!(larges.is_empty() && bench.has("large"));
    bench.assert_same();
}

#[test]
fn a_standby_that_is_slower_than_another_is_waited_for_but_not_for_ever() {
    let (mut bench, larges, _joined) = bench();
    let _slow = larges.join(standby("c"));
    bench.make("large", large(6, 2 * LARGE));
    larges.keep(&bench.cut().later);
    read(&bench, &larges);
    let offer = larges.next_for(&standby("b")).unwrap();
    send(&mut bench, &larges, &offer);
    let now = some_instant();
    assert!(!larges.settle(now));
    assert!(larges.settle(now + Duration::from_secs(60)));
}

#[test]
fn a_long_tail_is_taken_piece_by_piece() {
    let (mut bench, larges, _joined) = bench();
    bench.make("log", large(7, 3 * LARGE / 2));
    // It is there from before: without a standby nothing is left.
    bench.larges = None;
    bench.settle();
    bench.larges = Some(Arc::clone(&larges));
    let mut log = OpenOptions::new().append(true).open(bench.at("log")).unwrap();
    log.write_all(&noise(8, 5 * LARGE / 2)).unwrap();
    let mut sizes = Vec::new();
    for quality in [Quality::Partial, Quality::Partial, Quality::Consistent] {
        let cut = bench.cut();
        assert_eq!(cut.quality, quality, "{:?}", cut.deferred);
        sizes.push(bench.row("log").entry.size());
    }
    assert_eq!(sizes, [5, 7, 8].map(|halves| halves * LARGE as u64 / 2));
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_file_that_grows_without_rest_is_begun() {
    let (mut bench, larges, _joined) = bench();
    bench.make("growing", large(9, LARGE));
    let mut growing = OpenOptions::new().append(true).open(bench.at("growing")).unwrap();
    let mut cuts = 0;
    while !bench.has("growing") {
        larges.keep(&bench.cut().later);
        cuts += 1;
        assert!(cuts < 100, "it is never taken");
        growing.write_all(b"more").unwrap();
    }
    let begun = bench.row("growing").entry.size();
    assert_eq!(begun, LARGE as u64);
    bench.settle();
    bench.assert_same();
}

/// A bench whose standby has a large file by that name.
fn bench_with(name: &str, content: &[u8]) -> (Bench, Arc<Larges>, Joined) {
    let (mut bench, larges, joined) = bench();
    bench.make(name, content);
    bench.larges = None;
    bench.settle();
    bench.larges = Some(Arc::clone(&larges));
    (bench, larges, joined)
}

/// Cuts; what was left for later by that is forgotten by no cut.
fn cut(bench: &mut Bench, larges: &Larges) -> Cut {
    let cut = bench.cut();
    larges.keep(&cut.later);
    cut
}

#[test]
fn a_large_file_that_is_written_in_place_is_read_beside_the_cuts_and_its_blocks_are_taken() {
    let (mut bench, larges, _joined) = bench_with("base", &large(20, 4 * LARGE));
    let file = OpenOptions::new().write(true).open(bench.at("base")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"other", 2 * LARGE as u64).unwrap();
    assert_eq!(deferred(&cut(&mut bench, &larges)), ["base"]);
    assert!(bench.read_bytes < 100, "{} bytes were read", bench.read_bytes);
    read(&bench, &larges);
    assert!(larges.next_for(&standby("b")).is_none(), "nothing is sent ahead");
    assert!(larges.settle(some_instant()));
    let taken = cut(&mut bench, &larges);
    assert_eq!(taken.quality, Quality::Consistent, "{:?}", taken.deferred);
    let edited = taken.steps.iter().map(|step| &step.operation).find(|step| matches!(step.action, Action::Edit { .. }));
    let bytes = edited.unwrap().payload.unwrap().unpacked;
    assert!(bytes < LARGE as u64 / 4 && bench.read_bytes < LARGE as u64 / 4, "{bytes} of {}", bench.read_bytes);
    assert!(larges.is_empty());
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_large_file_that_is_rewritten_goes_ahead_as_a_delta_to_what_was_there() {
    let old = large(21, 4 * LARGE);
    for is_in_place in [false, true] {
        let (mut bench, larges, _joined) = bench_with("base", &old);
        let known = bench.row("base").entry.content().map(|digest| (digest, old.len() as u64));
        let new = [&large(22, 3 * LARGE / 2), &old[..3 * LARGE]].concat();
        if is_in_place {
            bench.make("base", &new);
        } else {
            fs::write(bench.outside().join("new"), &new).unwrap();
            fs::rename(bench.outside().join("new"), bench.at("base")).unwrap();
        }
        assert_eq!(deferred(&cut(&mut bench, &larges)), ["base"]);
        read(&bench, &larges);
        if is_in_place {
            // Its blocks do not tell: that shows when a cut looks.
            assert!(larges.settle(some_instant()));
            assert_eq!(deferred(&cut(&mut bench, &larges)), ["base"]);
        }
        let offer = larges.next_for(&standby("b")).unwrap();
        assert_eq!((offer.size, offer.base), (new.len() as u64, known), "in place: {is_in_place}");
        assert!(!larges.settle(some_instant()));
        send(&mut bench, &larges, &offer);
        assert!(larges.settle(some_instant()));
        let taken = cut(&mut bench, &larges);
        assert_eq!(taken.quality, Quality::Consistent, "{:?}", taken.deferred);
        assert!(bench.read_bytes < LARGE as u64 / 4, "{} bytes were read", bench.read_bytes);
        bench.settle();
        bench.assert_same();
    }
}

#[test]
fn a_large_file_that_was_only_touched_costs_a_reading_and_nothing_else() {
    let (mut bench, larges, _joined) = bench_with("base", &large(23, 2 * LARGE));
    fs::File::open(bench.at("base")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(deferred(&cut(&mut bench, &larges)), ["base"]);
    read(&bench, &larges);
    assert!(larges.settle(some_instant()));
    let taken = cut(&mut bench, &larges);
    let actions: Vec<_> = taken.steps.iter().map(|step| &step.operation.action).collect();
    assert!(matches!(actions.as_slice(), [Action::Attributes { .. }]), "{actions:?}");
    bench.settle();
    bench.assert_same();
}
