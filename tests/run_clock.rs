//! The wall clock is set, forward and back, under two daemons and a live load (G3, G4, G5): rounds in which it was set prove nothing, no link ends, no
//! alarm is raised, positions only rise and those of the standby are the primary's, what `wait` said is there, the lag comes down again, and what is
//! written under a clock that is behind is found after a restart.
//!
//! As root only. The clock is away for a few seconds in all. A process of its own puts it right again when the test ends, however it ends.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::pair::{Node, Pair};
use common::{build, is_root, note, skip};
use hotspare::jenkins::checks::{Promise, check, check_age};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::load::{Load, LoadOptions};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// How far the clock is set, in seconds.
const STEP: i64 = 120;
/// How often it is set to and fro while the load goes on.
const STEPS: u32 = 24;
/// Says to the process that puts the clock right how far the wall clock is ahead of the monotonic one, in nanoseconds.
const AHEAD: &str = "HOTSPARE_TEST_CLOCK_AHEAD";

fn nanoseconds(clock: ClockId) -> i128 {
    let now = clock_gettime(clock);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Sets the wall clock so far ahead of the monotonic one.
fn set(ahead: i128) -> rustix::io::Result<()> {
    let at = nanoseconds(ClockId::Monotonic) + ahead;
    let (seconds, rest) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    let at = Timespec { tv_sec: i64::try_from(seconds).unwrap(), tv_nsec: i64::try_from(rest).unwrap() };
    clock_settime(ClockId::Realtime, at)
}

/// The wall clock, put right in the end.
struct Clock {
    ahead: i128,
    /// It waits for the end of its input, which comes with the end of this process too.
    keeper: Child,
}

impl Clock {
    fn new() -> Self {
        let ahead = nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Monotonic);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "whoever_set_the_clock_and_ended_has_it_put_right"]).env(AHEAD, ahead.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self { ahead, keeper: command.spawn().unwrap() }
    }

    /// Sets it so many seconds from what is right.
    fn away(&self, seconds: i64) -> rustix::io::Result<()> {
        set(self.ahead + i128::from(seconds) * 1_000_000_000)
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.away(0).ok();
        drop(self.keeper.stdin.take());
        self.keeper.wait().ok();
    }
}

/// Not a test by itself: what [`Clock::new`] runs.
#[test]
fn whoever_set_the_clock_and_ended_has_it_put_right() {
    let Ok(ahead) = std::env::var(AHEAD) else { return };
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    set(ahead.parse().unwrap()).unwrap();
}

/// What both daemons say of themselves while the clock is away, or was just now.
fn assert_undisturbed(pair: &Pair, when: &str) {
    for node in [&pair.primary, &pair.standby] {
        let status = pair.status(node);
        assert_eq!(status["alarms"].as_array().map(Vec::len), Some(0), "{when}: {status:#}\n{}", pair.told());
        assert_eq!(status["state"], "streaming", "{when}: {status:#}\n{}", pair.told());
    }
}

/// Where a node stands: epoch and generation.
fn position(pair: &Pair, node: &Node) -> (u64, u64) {
    let status = pair.status(node);
    let told = status["position"].as_str().unwrap_or_else(|| panic!("{status:#}"));
    let (epoch, generation) = told.split_once('.').unwrap();
    (epoch.parse().unwrap(), generation.parse().unwrap())
}

/// Where both nodes were seen, first to last.
#[derive(Default)]
struct Walked {
    primary: Vec<(u64, u64)>,
    standby: Vec<(u64, u64)>,
}

impl Walked {
    /// Looks once more: both go forward in one reign, and the standby is never ahead.
    fn look(&mut self, pair: &Pair) {
        self.standby.push(position(pair, &pair.standby));
        self.primary.push(position(pair, &pair.primary));
        let (primary, standby) = (&self.primary, &self.standby);
        assert!(primary.is_sorted() && standby.is_sorted(), "{primary:?} {standby:?}\n{}", pair.told());
        assert!(standby.last() <= primary.last(), "{primary:?} {standby:?}\n{}", pair.told());
        assert!(primary.iter().all(|at| at.0 == primary[0].0), "another reign began: {primary:?}\n{}", pair.told());
    }
}

/// How often a link was made, as the standby tells it.
fn links(pair: &Pair) -> usize {
    pair.standby.log().lines().filter(|line| line.contains("connected to the primary")).count()
}

#[test]
fn a_clock_that_is_set_under_live_daemons_does_no_harm() {
    let name = "a_clock_that_is_set_under_live_daemons_does_no_harm";
    if !is_root() {
        return skip(name, "only root may set the clock");
    }
    let mut pair = Pair::trusting();
    make(&pair.bed.source(), HomeSize::default(), 79).unwrap();
    build::file(&pair.bed.src("quiet"), "1");
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let linked = links(&pair);
    let load = Load::start(&pair.bed.source(), LoadOptions::default()).unwrap();

    let clock = Clock::new();
    if let Err(error) = clock.away(STEP) {
        return skip(name, &format!("the clock cannot be set: {error}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_undisturbed(&pair, "with the clock ahead");
    let mut walked = Walked::default();
    walked.look(&pair);
    pair.assert_promised(&load);
    clock.away(-STEP).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_undisturbed(&pair, "with the clock behind");
    walked.look(&pair);
    pair.assert_promised(&load);
    // Some of these fall between two barriers of a cut, which the primary tells of each of its rounds.
    let spoilt = |pair: &Pair| pair.primary.log().lines().filter(|line| line.contains("ClockStepped")).count();
    let mut steps = 0;
    while steps < STEPS || (spoilt(&pair) == 0 && steps < 10 * STEPS) {
        clock.away(if steps % 2 == 0 { STEP } else { 0 }).unwrap();
        std::thread::sleep(Duration::from_millis(70 + u64::from(steps % STEPS) * 5));
        steps += 1;
        walked.look(&pair);
    }
    clock.away(0).unwrap();
    let spoilt = spoilt(&pair);
    assert!(spoilt > 0, "no round noticed any of {steps} steps");
    assert_undisturbed(&pair, "with the clock to and fro");
    pair.assert_promised(&load);
    walked.look(&pair);
    assert!(walked.standby.first() < walked.standby.last(), "nothing went on: {:?}", walked.standby);
    assert_eq!(links(&pair), linked, "a link ended\n{}", pair.told());
    pair.until("the lag is less than what the clock was set by", |pair| {
        let (primary, standby) = (pair.status(&pair.primary), pair.status(&pair.standby));
        let lags = [&primary["peers"][0]["lag_seconds"], &standby["lag_seconds"]];
        lags.iter().all(|lag| lag.as_f64().is_some_and(|lag| lag < 30.0))
    });

    // Written under a clock that is behind, with the same length, while nobody looks.
    clock.away(-STEP).unwrap();
    let done = load.stop().unwrap();
    pair.primary.stop();
    build::file(&pair.bed.src("quiet"), "2");
    clock.away(0).unwrap();
    pair.start_primary();
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
    let replica = pair.bed.destination();
    assert_eq!(std::fs::read(replica.join("quiet")).unwrap(), b"2");
    assert_eq!([check(&replica, Promise::Instant), check_age(&replica, &done, Promise::Instant)].concat(), []);
    note(&format!("{spoilt} rounds of cuts were spoilt by the clock, in {steps} steps"));
}
