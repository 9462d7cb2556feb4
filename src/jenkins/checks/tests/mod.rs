//! The checks find what is planted, and nothing in any state that a crash could leave.

#![expect(clippy::disallowed_methods, reason = "a test damages a home of its own")]

mod planted;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::{Promise, Rule, check, check_age};
use crate::jenkins::home::{HomeSize, make};
use crate::jenkins::ledger::{Books, Ledger};
use crate::jenkins::load::{Load, LoadOptions, Writer};

const SMALL: HomeSize = HomeSize { jobs: 3, builds: 2, flow_nodes: 3, plugins: 1, users: 2, fingerprints: 2 };
const ONE: LoadOptions = LoadOptions { writers: NonZeroU32::MIN, rest: Duration::ZERO, seed: 3 };

fn home(size: HomeSize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), size, 1).unwrap();
    directory
}

fn assert_clean(home: &Path, after: &str) {
    let found: Vec<String> = check(home, Promise::Instant).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{after}: {found:#?}");
}

/// A home under load, and what was done until then.
fn loaded(steps: u32) -> (tempfile::TempDir, Ledger) {
    let home = home(SMALL);
    let mut writer = Writer::open(home.path(), 0, ONE).unwrap();
    for _ in 0..steps {
        writer.step(&mut || {}).unwrap();
    }
    let books = Books::new(1);
    writer.enter(&books);
    (home, books.copy())
}

#[test]
fn every_state_between_two_calls_is_clean_and_none_goes_back() {
    let home = home(SMALL);
    let books = Books::new(1);
    let mut writer = Writer::open(home.path(), 0, ONE).unwrap();
    let mut calls = 0;
    for step in 0..500 {
        writer.enter(&books);
        let done = books.copy();
        let mut between = || {
            calls += 1;
            // A temporary is on disk, but no copy may have it.
            let found =
                check(home.path(), Promise::Instant).into_iter().chain(check_age(home.path(), &done, Promise::Instant));
            let found: Vec<String> =
                found.filter(|found| found.rule != Rule::Temporary).map(|found| found.to_string()).collect();
            assert!(found.is_empty(), "step {step}, call {calls}: {found:#?}");
        };
        writer.step(&mut between).unwrap();
    }
    assert_clean(home.path(), "at rest");
    writer.enter(&books);
    let done = books.copy();
    let builds: u64 = done.jobs.iter().map(|job| job.finished).sum();
    assert!(builds > 10 && done.jobs.iter().any(|job| job.edits > 0) && done.instruments[0].notes > 20, "{done:?}");
}

#[test]
fn the_same_seed_makes_the_same_home() {
    let tree = |home: &Path| {
        let mut found = BTreeSet::new();
        let mut below = vec![home.to_owned()];
        while let Some(directory) = below.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let content = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                found.insert((path.strip_prefix(home).unwrap().to_owned(), content));
                below.extend(path.is_dir().then_some(path));
            }
        }
        found
    };
    assert!(tree(home(SMALL).path()) == tree(home(SMALL).path()));
    assert!(tree(loaded(200).0.path()) == tree(loaded(200).0.path()));
}

#[test]
fn a_load_of_many_writers_leaves_a_clean_home_and_another_goes_on_with_it() {
    let home = home(HomeSize { jobs: 5, ..SMALL });
    let options = LoadOptions { writers: NonZeroU32::new(3).unwrap(), ..ONE };
    let mut before = Ledger::default();
    for round in 0..3 {
        let load = Load::start(home.path(), options).unwrap();
        while load.ledger().steps < 300 {
            assert!(!load.has_failed(), "{:?}", load.stop());
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = load.stop().unwrap();
        assert_clean(home.path(), &format!("round {round}"));
        assert_eq!(check_age(home.path(), &after, Promise::Instant), []);
        assert_eq!(check_age(home.path(), &before, Promise::Instant), []);
        before = after;
    }
}

#[test]
fn a_home_that_is_no_made_one_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let refused = Load::start(directory.path(), ONE).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("jobs"), "{refused}");
    fs::create_dir_all(directory.path().join("jobs/strange")).unwrap();
    let refused = Load::start(directory.path(), ONE).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("jobs/strange"), "{refused}");
}
