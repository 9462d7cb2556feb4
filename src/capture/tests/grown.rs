//! Logs that grow all the time do not keep a cut from being proven; files that are rewritten do.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::bench::{BACKENDS, Bench, noise};
use crate::thought::generation::Quality;

const MIB: usize = 1 << 20;
const LOGS: [&str; 3] = ["builds/1/log", "builds/2/log", "audit.log"];

/// Calls `work` as fast as it goes while `body` runs.
pub(super) fn meanwhile<T>(mut work: impl FnMut(u64) + Send, body: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                work(count);
                count += 1;
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn logs_that_never_stop_growing_are_cut_consistently_as_true_prefixes() {
    for backend in BACKENDS {
        let mut bench = Bench::new(backend);
        bench.make(LOGS[0], noise(1, 100));
        bench.make(LOGS[1], noise(2, 3 * MIB));
        bench.make(LOGS[2], noise(3, 900_000));
        bench.settle();
        let files = LOGS.map(|log| OpenOptions::new().append(true).open(bench.at(log)).unwrap());
        let mut captured = Vec::new();
        let mut consistent = 0;
        let grow = |count: u64| {
            let line = format!("line {count} of a build that says much\n");
            files.iter().for_each(|mut file| file.write_all(line.as_bytes()).unwrap());
            std::thread::sleep(Duration::from_micros(200));
        };
        meanwhile(grow, || {
            for _ in 0..50 {
                std::thread::sleep(Duration::from_millis(10));
                let cut = bench.cut();
                consistent += usize::from(cut.quality == Quality::Consistent);
                captured.push(LOGS.map(|log| bench.content(log).to_vec()));
            }
        });
        println!("{backend:?}: {consistent} of 50 consistent under constant appends");
        for (index, log) in LOGS.into_iter().enumerate() {
            let last = fs::read(bench.at(log)).unwrap();
            let mut before = 0;
            for contents in &captured {
                assert!(last.starts_with(&contents[index]), "{log} was cut to what it never was");
                assert!(contents[index].len() >= before, "{log} became shorter");
                before = contents[index].len();
            }
            assert!(before > captured[0][index].len(), "{log} did not grow");
        }
        assert!(consistent >= 45, "{backend:?}: only {consistent} of 50 are consistent");
        bench.settle();
        bench.assert_same();
    }
}

/// Two files written in place, the second after the first: as of any instant the second is the same, or one behind.
#[test]
fn a_file_rewritten_in_place_is_never_taken_for_one_that_grew() {
    let mut bench = Bench::new(BACKENDS[1]);
    // Longer than what is never believed to have grown, and one digit longer now and then: the worst that can be met.
    let text = |count: u64| format!("{:064} {}", 0, count).into_bytes();
    bench.make("a", text(0));
    bench.make("b", text(0));
    bench.settle();
    let files = ["a", "b"].map(|name| OpenOptions::new().write(true).open(bench.at(name)).unwrap());
    let number = |bytes: &[u8]| std::str::from_utf8(&bytes[65..]).unwrap().parse::<u64>().unwrap();
    let (mut violations, mut consistent, mut claimed) = (0, 0, 0);
    let write = |count: u64| {
        files.iter().for_each(|file| file.write_all_at(&text(count), 0).unwrap());
        if count.is_multiple_of(16) {
            std::thread::sleep(Duration::from_micros(count % 4000));
        }
    };
    meanwhile(write, || {
        for _ in 0..300 {
            let cut = bench.cut();
            claimed += cut.grown.len();
            if cut.quality == Quality::Consistent {
                consistent += 1;
                let (a, b) = (number(bench.content("a")), number(bench.content("b")));
                violations += usize::from(!(a == b || a == b + 1));
            }
        }
    });
    println!("{consistent} of 300 consistent while two files are rewritten in place, {violations} violations");
    assert_eq!((violations, claimed), (0, 0));
    assert!(consistent > 0);
}

#[test]
fn a_file_truncated_and_written_anew_is_never_taken_for_one_that_grew() {
    let mut bench = Bench::new(BACKENDS[0]);
    bench.make("state.xml", noise(1, 200));
    bench.settle();
    let at = bench.at("state.xml");
    let mut claimed = 0;
    let write = |count: u64| {
        let mut file = File::create(&at).unwrap();
        file.write_all(&noise(count, 100)).unwrap();
        file.write_all(&noise(count, 400)).unwrap();
    };
    meanwhile(write, || {
        for _ in 0..60 {
            claimed += usize::from(!bench.cut().grown.is_empty());
        }
    });
    assert_eq!(claimed, 0);
}
