//! G3 in small: what a consistent cut holds is what one writer had done at some instant.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::bench::{BACKENDS, Bench, now};
use super::grown::meanwhile;
use crate::thought::generation::Quality;

/// What one cut has of the writer's work.
#[derive(Debug)]
struct Seen {
    a: u64,
    b: u64,
    saved: u64,
    tokens: usize,
    numbered: Vec<u64>,
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().trim().parse().unwrap()
}

fn seen(bench: &Bench) -> Seen {
    let rows = bench.rows();
    let name = |path: &crate::words::path::RelPath| path.to_string();
    let mut numbered: Vec<u64> = rows.keys().filter_map(|path| name(path).strip_prefix("set/")?.parse().ok()).collect();
    numbered.sort_unstable();
    Seen {
        a: number(bench.content("a")),
        b: number(bench.content("b")),
        saved: number(bench.content("saved")),
        tokens: rows.keys().filter(|path| name(path).ends_with("/token/file")).count(),
        numbered,
    }
}

/// What cannot be, at any instant of the writer below.
fn violation(seen: &Seen) -> Option<&'static str> {
    let Seen { a, b, saved, tokens, numbered } = seen;
    let has_gaps = numbered.windows(2).any(|pair| pair[1] != pair[0] + 1);
    let last = numbered.last().copied().unwrap_or(*saved);
    match () {
        () if !(*b <= *a && *a <= *b + 1) => Some("the second counter is ahead, or more than one behind"),
        () if !(*saved <= *b && *b <= *saved + 1) => Some("the saved file is ahead, or more than one behind"),
        () if *tokens != 1 => Some("the token is not in exactly one directory"),
        () if has_gaps => Some("the numbered files have gaps"),
        () if !(last <= *saved && *saved <= last + 1) => {
            Some("the last numbered file is ahead, or more than one behind")
        }
        () => None,
    }
}

fn step(home: &std::path::Path, counters: &[File; 2], count: u64) {
    for counter in counters {
        counter.write_all_at(format!("{count:020}").as_bytes(), 0).unwrap();
    }
    fs::write(home.join("tmp"), format!("{count:020}")).unwrap();
    fs::rename(home.join("tmp"), home.join("saved")).unwrap();
    File::create(home.join(format!("set/{count}"))).unwrap();
    if count >= 20 {
        fs::remove_file(home.join(format!("set/{}", count - 20))).unwrap();
    }
    let (from, to) = if count.is_multiple_of(2) { ("one", "two") } else { ("two", "one") };
    fs::rename(home.join(from).join("token"), home.join(to).join("token")).unwrap();
}

fn run(seconds: i64, backend: crate::watch::Backend) {
    let mut bench = Bench::new(backend);
    bench.make("one/token/file", "here");
    for counter in ["a", "b", "saved"] {
        bench.make(counter, format!("{:020}", 0));
    }
    for directory in ["two", "set"] {
        fs::create_dir(bench.at(directory)).unwrap();
    }
    bench.settle();
    let counters = ["a", "b"].map(|name| OpenOptions::new().write(true).open(bench.at(name)).unwrap());
    let home = bench.home.clone();
    let (mut cuts, mut consistent, mut violations, mut last) = (0, 0, Vec::new(), 0);
    let work = |count: u64| {
        step(&home, &counters, count);
        if count.is_multiple_of(3) {
            std::thread::sleep(Duration::from_micros(50 * (count % 100)));
        }
    };
    meanwhile(work, || {
        let end = now().seconds + seconds;
        while now().seconds < end {
            let cut = bench.cut();
            cuts += 1;
            if cut.quality == Quality::Consistent {
                consistent += 1;
                let seen = seen(&bench);
                if let Some(violation) = violation(&seen) {
                    violations.push(format!("{violation}: {seen:?}"));
                }
                assert!(seen.a >= last, "the home went back");
                last = seen.a;
            }
        }
    });
    println!("{backend:?}: {consistent} of {cuts} cuts consistent, {} violations, {last} steps", violations.len());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(consistent > 0, "no cut was consistent");
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_consistent_cut_is_what_was_there_at_one_instant() {
    for backend in BACKENDS {
        run(3, backend);
    }
}

#[test]
#[ignore = "minutes: the same for longer"]
fn a_consistent_cut_is_what_was_there_at_one_instant_long() {
    for backend in BACKENDS {
        run(120, backend);
    }
}
