//! What a change costs: which operation it becomes, how many bytes are shipped, how many are read.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::bench::{BACKENDS, Bench, noise, path};
use super::grown::meanwhile;
use crate::capture::Cut;
use crate::thought::generation::{Action, Content, Quality, Reason};
use crate::thought::plan::Encoded;
use crate::words::entry::{Body, Proof};
use crate::words::path::RelPath;

const MIB: usize = 1 << 20;

fn settled(path: &str, content: impl AsRef<[u8]>) -> Bench {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make(path, content);
    bench.settle();
    bench
}

fn shipped(cut: &Cut) -> u64 {
    cut.steps.iter().filter_map(|step| step.operation.payload).map(|payload| payload.length).sum()
}

fn encoded<'a>(cut: &'a Cut, at: &str) -> &'a Encoded {
    &cut.captures[&path(at)].as_ref().unwrap().encoded
}

fn actions(cut: &Cut) -> Vec<&Action> {
    cut.steps.iter().map(|step| &step.operation.action).collect()
}

#[track_caller]
fn cut(bench: &mut Bench) -> Cut {
    let cut = bench.cut();
    assert_eq!(cut.quality, Quality::Consistent);
    bench.assert_same();
    cut
}

fn append(bench: &Bench, at: &str, content: &[u8]) {
    OpenOptions::new().append(true).open(bench.at(at)).unwrap().write_all(content).unwrap();
}

#[test]
fn an_append_to_a_large_file_costs_what_was_appended() {
    let mut bench = settled("log", noise(1, 5 * MIB));
    append(&bench, "log", &noise(2, 100));
    let cut = cut(&mut bench);
    let Encoded::Edit { old_length, spans, probes: Some(_), .. } = encoded(&cut, "log") else { panic!("{cut:?}") };
    assert_eq!((*old_length, spans.len()), (5 << 20, 1));
    assert!(shipped(&cut) < 150, "{}", shipped(&cut));
    let Body::File { proof, .. } = bench.row("log").entry.body else { panic!() };
    assert_eq!(proof, Proof::Probed);
    assert!(bench.read_bytes < 600_000, "{} bytes were read", bench.read_bytes);
}

#[test]
fn a_large_file_written_anew_and_longer_is_not_taken_for_an_append() {
    let mut bench = settled("log", noise(1, 2 * MIB));
    fs::write(bench.at("log"), noise(2, 3 * MIB)).unwrap();
    let cut = cut(&mut bench);
    assert!(matches!(encoded(&cut, "log"), Encoded::New { content: Content::Whole, .. }), "{cut:?}");
}

#[test]
fn a_large_file_changed_in_one_block_and_appended_to_is_not_taken_for_an_append() {
    let mut bench = settled("log", noise(1, 2 * MIB));
    append(&bench, "log", b"more");
    OpenOptions::new().write(true).open(bench.at("log")).unwrap().write_all_at(b"changed", 0).unwrap();
    let cut = cut(&mut bench);
    let Encoded::Edit { probes: None, .. } = encoded(&cut, "log") else { panic!("{cut:?}") };
}

#[test]
fn an_edit_in_place_costs_about_its_blocks() {
    let mut bench = settled("database", noise(1, 20 * MIB));
    let file = OpenOptions::new().write(true).open(bench.at("database")).unwrap();
    file.write_all_at(&noise(3, 4096), 7 << 20).unwrap();
    let cut = cut(&mut bench);
    let Encoded::Edit { spans, probes: None, .. } = encoded(&cut, "database") else { panic!("{cut:?}") };
    assert_eq!(spans.len(), 1);
    assert!(shipped(&cut) < 9000, "{}", shipped(&cut));
}

#[test]
fn bytes_put_into_the_middle_cost_a_small_delta() {
    let before = noise(1, 5 * MIB);
    let mut bench = settled("archive", &before);
    let (head, tail) = before.split_at(2 * MIB + 77);
    fs::write(bench.at("archive"), [head, b"put in between", tail].concat()).unwrap();
    let cut = cut(&mut bench);
    assert!(matches!(encoded(&cut, "archive"), Encoded::New { content: Content::Delta { .. }, .. }));
    assert!(shipped(&cut) < 20_000, "{}", shipped(&cut));
}

#[test]
fn a_save_by_rename_costs_a_delta_against_what_was_at_the_path() {
    let before = noise(1, MIB);
    let mut bench = settled("archive", &before);
    fs::write(bench.at("archive.tmp"), [&before[..], b"appended"].concat()).unwrap();
    fs::rename(bench.at("archive.tmp"), bench.at("archive")).unwrap();
    let cut = cut(&mut bench);
    assert!(matches!(encoded(&cut, "archive"), Encoded::New { content: Content::Delta { .. }, .. }));
    assert!(shipped(&cut) < 10_000, "{}", shipped(&cut));
}

#[test]
fn unrelated_content_is_shipped_whole() {
    let mut bench = settled("file", noise(1, MIB));
    fs::write(bench.at("file"), noise(2, MIB)).unwrap();
    let cut = cut(&mut bench);
    assert!(matches!(encoded(&cut, "file"), Encoded::New { content: Content::Whole, .. }));
    assert!(shipped(&cut) < MIB as u64 + 1000);
}

#[test]
fn a_copy_of_what_is_held_ships_nothing() {
    let mut bench = settled("file", noise(1, 4096));
    bench.make("large", noise(2, 300_000));
    bench.settle();
    fs::copy(bench.at("file"), bench.at("copy")).unwrap();
    fs::copy(bench.at("large"), bench.at("large copy")).unwrap();
    let cut = cut(&mut bench);
    for copy in ["copy", "large copy"] {
        assert!(matches!(encoded(&cut, copy), Encoded::New { content: Content::Held, .. }), "{cut:?}");
    }
    assert_eq!(shipped(&cut), 0);
}

#[test]
fn a_renamed_directory_is_one_rename_and_nothing_is_read() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        for index in 0..300 {
            bench.make(&format!("jobs/a/builds/{index}"), noise(index, 1000));
        }
        bench.settle();
        fs::rename(bench.at("jobs/a"), bench.at("jobs/b")).unwrap();
        let cut = cut(&mut bench);
        let (renames, others): (Vec<_>, Vec<_>) =
            actions(&cut).into_iter().partition(|action| matches!(action, Action::Rename { .. }));
        assert_eq!(renames, [&Action::Rename { from: path("jobs/a"), to: path("jobs/b") }]);
        assert!(matches!(others[..], [Action::Attributes { .. }]), "{others:?}");
        assert_eq!(bench.read_bytes, 0);
    }
}

#[test]
fn a_small_document_is_packed_smaller() {
    let mut bench = settled("other", "x");
    bench.make("config.xml", "<project><description>text</description></project>\n".repeat(40));
    let cut = cut(&mut bench);
    assert!(shipped(&cut) < 500, "{}", shipped(&cut));
}

#[test]
fn what_did_not_change_is_unchanged_and_not_read() {
    let mut bench = settled("file", noise(1, 2 * MIB));
    bench.walker.mark(&path("file"), super::bench::now());
    let cut = cut(&mut bench);
    assert_eq!(*encoded(&cut, "file"), Encoded::Unchanged);
    assert!(cut.steps.is_empty());
    assert_eq!(bench.read_bytes, 0);
}

#[test]
fn what_was_written_again_as_it_was_ships_nothing() {
    let mut bench = settled("file", noise(1, 2 * MIB));
    bench.make("small", "counter 7");
    bench.settle();
    fs::write(bench.at("file"), noise(1, 2 * MIB)).unwrap();
    fs::write(bench.at("small"), "counter 7").unwrap();
    let cut = cut(&mut bench);
    assert_eq!((encoded(&cut, "file"), encoded(&cut, "small")), (&Encoded::Unchanged, &Encoded::Unchanged));
    assert_eq!(shipped(&cut), 0);
}

#[test]
fn a_renamed_file_ships_nothing() {
    let mut bench = settled("a", noise(1, 300_000));
    fs::rename(bench.at("a"), bench.at("b")).unwrap();
    let cut = cut(&mut bench);
    assert_eq!(shipped(&cut), 0);
    assert!(actions(&cut).contains(&&Action::Rename { from: path("a"), to: path("b") }));
}

#[test]
fn holes_are_not_read() {
    let mut bench = settled("other", "x");
    let file = File::create(bench.at("image")).unwrap();
    file.set_len(50 << 20).unwrap();
    file.write_all_at(&noise(1, 8192), 20 << 20).unwrap();
    let cut = cut(&mut bench);
    assert!(matches!(encoded(&cut, "image"), Encoded::New { sparse: true, .. }));
    assert!(shipped(&cut) < 60_000, "{}", shipped(&cut));
}

#[test]
fn what_is_asked_for_whole_is_captured_whole_even_if_it_is_gone() {
    let mut bench = settled("file", noise(1, 100_000));
    let whole = ["file", "gone", "gone/too", ".hotspare/home"].map(path).into();
    let cut = bench.cut_whole(&whole);
    assert_eq!(cut.quality, Quality::Consistent);
    assert!(matches!(encoded(&cut, "file"), Encoded::New { content: Content::Whole, .. }));
    bench.assert_same();
}

#[test]
fn a_link_made_along_with_an_edit_remembers_the_content_after_it() {
    let mut bench = settled("a", noise(1, 2 * MIB));
    fs::hard_link(bench.at("a"), bench.at("b")).unwrap();
    let file = OpenOptions::new().write(true).open(bench.at("a")).unwrap();
    file.write_all_at(&noise(3, 5), 1_000_000).unwrap();
    cut(&mut bench);
    assert_eq!(bench.row("a").memory, bench.row("b").memory);
    append(&bench, "b", b"more");
    cut(&mut bench);
}

#[test]
fn a_home_of_more_than_one_cut_takes_is_not_scanned_again_for_each() {
    let mut bench = Bench::new(BACKENDS[0]);
    (0..60).for_each(|number| bench.make(&format!("{number}/file"), b"x"));
    bench.rounds.paths = 20;
    bench.cut();
    assert!(!bench.walker.dirty().is_empty());
    assert_eq!(bench.walker.awaiting(), 0, "new directories are to be scanned again");
    bench.settle();
    bench.assert_same();
}

/// Names come and go in the home itself all the time, temporaries of saves for one. That it was in motion is no reason to scan all of it.
#[test]
fn a_home_in_which_names_come_and_go_is_not_scanned_whole_for_it() {
    let mut bench = Bench::new(BACKENDS[0]);
    for number in 0..50 {
        bench.make(&format!("d/{number}/file"), "content");
    }
    bench.settle();
    bench.rounds.rounds = 1;
    bench.rounds.persistence = Duration::ZERO;
    let home = bench.home.clone();
    let save = |number| {
        let temporary = home.join(format!("temporary-{number}"));
        fs::write(&temporary, "content").unwrap();
        fs::rename(&temporary, home.join("config.xml")).unwrap();
    };
    let mut met = 0;
    meanwhile(save, || {
        for _ in 0..500 {
            let cut = bench.cut();
            let is_met = cut.quality == Quality::Fuzzy(vec![Reason::Conflict])
                && cut.left.is_some_and(|left| left.contains(&RelPath::root()));
            met += u32::from(is_met);
            assert!(!bench.walker.awaits_scan(&RelPath::root()), "all of the home is to be scanned");
            if met > 5 {
                break;
            }
        }
    });
    assert!(met > 0, "no cut met the home in motion");
    bench.settle();
    bench.assert_same();
}
