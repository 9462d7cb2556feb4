//! G3: what a consistent cut holds is the state after some prefix of one writer's calls, the next call in part if it is a write; and appended
//! files may be ahead, as true prefixes.
//!
//! The calls are numbered and follow from a seed (`script`), so what the home was after each of them is known without a record. Threads that
//! burn time now and then take the processor away from the writer in the middle of its calls, and from the cut. The writer rests while a cut is
//! judged, and each cut waits for a call to begin: one of a home that stands still proves little, and does not count.
//! `HOTSPARE_CUTS` says how many of something are made on each way to watch: what a few seconds give if it is not set, half a million in the
//! long form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bench::{BACKENDS, Bench, now};
use super::grown::meanwhile;
use super::script::{Model, Script, State, is_log, is_said};
use crate::thought::dice::Dice;
use crate::thought::generation::Quality;
use crate::words::path::RelPath;

/// How many threads burn time.
const HOGS: u64 = 2;
/// For how long a hog burns time at most, and how long it rests, in microseconds.
const HOG: (usize, usize) = (600, 1500);
/// How long a call is waited for at most, and how long a cut begins after one at most.
const AWAITED: Duration = Duration::from_millis(50);
const PHASE: usize = 300;
/// For how long cuts are made on each way to watch in the short form, and how many at least.
const SECONDS: i64 = 4;
const CUTS: u32 = 8;
/// After how many cuts the long form tells how far it is.
const TOLD: u32 = 50_000;

/// What the bench's standby holds.
fn state(bench: &Bench) -> State<'_> {
    let mut files = BTreeMap::new();
    let mut named: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (path, row) in bench.rows().iter().filter(|(path, _)| **path != RelPath::root()) {
        let content = (!row.entry.is_directory()).then(|| bench.standby.bytes(&row.entry));
        files.insert(path.to_string(), content);
        if let Some(link) = row.entry.link {
            named.entry(link.0).or_default().insert(path.to_string());
        }
    }
    State { files, links: named.into_values().filter(|names| names.len() > 1).collect() }
}

/// A home that follows the script.
#[derive(Clone)]
struct Known {
    model: Model,
    script: Script,
}

impl Known {
    /// Goes on until it is `state`, which it must be after `limit` calls at the latest.
    fn find(&mut self, state: &State<'_>, limit: u64) -> Result<(), String> {
        let logs = state.files.iter().filter(|(path, _)| is_log(path));
        for (path, content) in logs {
            if !content.is_some_and(|content| is_said(path, content)) {
                return Err(format!("{path} is not the beginning of what was appended"));
            }
        }
        let begun = self.clone();
        while !self.model.is(state, self.script.peek()) {
            if self.model.calls() > limit {
                return Err(begun.nearest(state, limit));
            }
            self.model.apply(&self.script.next());
        }
        Ok(())
    }

    fn nearest(mut self, state: &State<'_>, limit: u64) -> String {
        let begun = self.model.calls();
        let mut calls = Vec::new();
        let mut nearest = (usize::MAX, String::new());
        while self.model.calls() <= limit {
            let differences = self.model.differences(state, self.script.peek());
            if differences.len() <= nearest.0 {
                let text = format!("after {} calls: {differences:#?}", self.model.calls());
                nearest = (differences.len(), text);
            }
            let call = self.script.next();
            self.model.apply(&call);
            calls.push(format!("{}: {call}", self.model.calls()));
        }
        format!("from call {begun} to {limit} the home never was so; nearest to it {}; {calls:#?}", nearest.1)
    }
}

fn burn(mut dice: Dice, is_over: &AtomicBool) {
    let mut time = |most| Duration::from_micros(dice.index(most) as u64);
    while !is_over.load(Ordering::Relaxed) {
        let (begun, burns) = (Instant::now(), time(HOG.0));
        while begun.elapsed() < burns {
            std::hint::spin_loop();
        }
        std::thread::sleep(time(HOG.1));
    }
}

/// Waits for a call to begin, and some time more.
fn await_call(done: &AtomicU64, dice: &mut Dice) {
    let (begun, seen) = (Instant::now(), done.load(Ordering::SeqCst));
    while done.load(Ordering::SeqCst) == seen && begun.elapsed() < AWAITED {
        std::thread::sleep(Duration::from_micros(20));
    }
    std::thread::sleep(Duration::from_micros(dice.index(PHASE) as u64));
}

fn run(seed: u64, cuts: Option<u32>, backend: crate::watch::Backend) {
    let mut bench = Bench::new(backend);
    let mut written = Script::new(seed);
    let mut known = Known { model: Model::default(), script: Script::new(seed) };
    for _ in 0..Script::SETUP {
        let call = written.next();
        call.perform(&bench.home);
        known.model.apply(&known.script.next());
    }
    bench.settle();
    let home = bench.home.clone();
    let (done, judging) = (AtomicU64::new(known.model.calls()), Mutex::new(()));
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    // What the last cut took, or twice that, in microseconds: so the writer leaves room for some to be proven, on any machine, and not
    // for all to be proven at once.
    let pace = AtomicU64::new(20_000);
    let mut dice = Dice::new(seed);
    let (mut steps, mut empty, is_over) = (0, 0, AtomicBool::new(false));
    let work = |_| {
        let call = written.next();
        {
            let _judged = judging.lock();
            done.fetch_add(1, Ordering::SeqCst);
            call.perform(&home);
        }
        std::thread::sleep(written.rest(Duration::from_micros(pace.load(Ordering::Relaxed))));
    };
    std::thread::scope(|scope| {
        for hog in 0..HOGS {
            let is_over = &is_over;
            scope.spawn(move || burn(Dice::new(hog), is_over));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            meanwhile(work, || {
                let end = now().seconds + SECONDS;
                let mut cut = 0_u32;
                while cuts.map_or(cut < CUTS || now().seconds < end, |cuts| cut < cuts) {
                    await_call(&done, &mut dice);
                    let begun = Instant::now();
                    let made = bench.cut();
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
                    pace.store(took.clamp(500, 100_000) << dice.index(2), Ordering::Relaxed);
                    let _judged = judging.lock();
                    match made.captures.is_empty() {
                        true => empty += 1,
                        false => {
                            cut += 1;
                            *counts.entry(made.quality.told().0).or_default() += 1;
                            if cut.is_multiple_of(TOLD) {
                                println!("{backend:?}, seed {seed}: {counts:?}");
                            }
                        }
                    }
                    if made.quality == Quality::Consistent {
                        let found = known.find(&state(&bench), done.load(Ordering::SeqCst));
                        found.unwrap_or_else(|text| panic!("seed {seed}, cut {cut} in {} rounds: {text}", made.rounds));
                    }
                }
                steps = done.load(Ordering::SeqCst);
            });
        }));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    println!("{backend:?}, seed {seed}: {counts:?} cuts of something, {empty} of nothing, {steps} calls");
    assert!(counts.contains_key("consistent"), "no cut was consistent: {counts:?}");
    bench.settle();
    bench.assert_same();
}

#[test]
fn a_consistent_cut_is_the_home_after_some_prefix_of_the_calls() {
    let cuts = std::env::var("HOTSPARE_CUTS").ok().map(|text| text.parse().unwrap());
    let seed = u64::from(std::process::id());
    for backend in BACKENDS {
        run(seed, cuts, backend);
    }
}
