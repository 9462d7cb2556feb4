//! A side that is killed at any moment of a live load: what the replica shows after it is one whole generation, none older than what was
//! acked, nothing that its quality rules out, and no litter (G1, G2, G3).
//!
//! The standby is killed, the primary, or both. Nothing reaches the replica while it is looked at: the primary stands still (SIGSTOP) then,
//! or is dead. `HOTSPARE_KILLS` says how often: 8 if it is not set, 200 in the long form.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::build;
use common::note;
use common::pair::Pair;
use common::whole::{Place, acked, litter, place, shown_whole};
use hotspare::jenkins::checks::{Promise, check, check_age};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::ledger::Ledger;
use hotspare::jenkins::load::{Load, LoadOptions};
use hotspare::thought::dice::Dice;
use rustix::process::Signal;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Victim {
    Standby,
    Primary,
    Both,
}

fn kills() -> u32 {
    std::env::var("HOTSPARE_KILLS").map_or(8, |text| text.parse().unwrap())
}

fn nap(dice: &mut Dice, below_ms: usize) {
    std::thread::sleep(Duration::from_millis(u64::try_from(dice.index(below_ms)).unwrap()));
}

/// A pair under load, and what is known of it.
struct Storm {
    pair: Pair,
    dice: Dice,
    load: Load,
    /// The newest generation that was acked.
    acked: Option<Place>,
    /// What was done when all was acked the last time: no replica may be older.
    floor: Ledger,
    /// The quality of every generation, as the primary said that made it.
    qualities: BTreeMap<Place, String>,
    /// How many replicas were judged, by quality.
    judged: BTreeMap<String, u32>,
}

impl Storm {
    fn new() -> Self {
        let mut pair = Pair::trusting();
        for node in [&mut pair.primary, &mut pair.standby] {
            node.edit("preset = \"none\"", "preset = \"jenkins\"");
        }
        make(&pair.bed.source(), HomeSize::default(), 71).unwrap();
        pair.start_primary();
        pair.start_standby();
        pair.until_streaming();
        let seed = u64::from(std::process::id());
        note(&format!("the load's seed is {seed}"));
        let load = Load::start(&pair.bed.source(), LoadOptions { seed, ..LoadOptions::default() }).unwrap();
        let dice = Dice::new(seed);
        Self {
            pair,
            dice,
            load,
            acked: None,
            floor: Ledger::default(),
            qualities: BTreeMap::new(),
            judged: BTreeMap::new(),
        }
    }

    fn round(&mut self, round: u32) {
        // In every third round it is killed early, while it is brought up to date again.
        if !round.is_multiple_of(3) {
            let done = self.load.ledger();
            let waited = self.pair.ask(&self.pair.primary, &["wait", "--timeout", "120s"]);
            assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, self.pair.told());
            self.floor = done;
        }
        // The primary does not tell of a standby that it has no link to.
        self.acked = self.acked.max(acked(&self.pair));
        let acked = self.acked;
        nap(&mut self.dice, 700);
        let victim = match round % 8 {
            3 => Victim::Both,
            7 => Victim::Primary,
            _ => Victim::Standby,
        };
        self.kill(victim);
        note(&format!(
            "round {round}: {victim:?} killed after {acked:?} was acked; {:?}",
            litter(&self.pair.bed.destination())
        ));
        let shown = if victim == Victim::Primary {
            let mut hold = self.pair.hold(&[]);
            let shown = place(&self.pair.status(&self.pair.standby)["position"]);
            assert!(shown >= acked, "it acked {acked:?} and shows {shown:?}\n{}", self.pair.told());
            self.judge(shown.unwrap());
            self.pair.let_go(&mut hold);
            shown
        } else {
            self.pair.start_standby();
            shown_whole(&mut self.pair, acked).inspect(|shown| self.judge(*shown))
        };
        note(&format!("round {round}: it shows {shown:?}"));
        match victim {
            Victim::Standby => self.pair.primary.daemon().signal(Signal::CONT),
            Victim::Primary | Victim::Both => self.pair.start_primary(),
        }
    }

    fn kill(&mut self, victim: Victim) {
        if victim == Victim::Standby {
            self.pair.primary.daemon().signal(Signal::STOP);
            let said = self.pair.primary.log();
            self.note_qualities(&said);
        } else {
            let said = self.pair.primary.kill();
            self.note_qualities(&said);
        }
        if victim != Victim::Primary {
            self.pair.standby.kill();
        }
    }

    fn note_qualities(&mut self, said: &str) {
        for line in said.lines() {
            let value = |name| Some(line.split_once(name)?.1.split_whitespace().next()?.to_owned());
            if let (Some(at), Some(quality)) = (value(" generation position="), value(" quality=")) {
                self.qualities.insert(place(&at.into()).unwrap(), quality);
            }
        }
    }

    /// Holds the replica to what its generation claims, and to its age whatever that claims.
    fn judge(&mut self, shown: Place) {
        let quality = self.qualities.get(&shown).cloned().unwrap_or_else(|| "unknown".into());
        let promise = if quality == "consistent" { Promise::Instant } else { Promise::Whole };
        let replica = self.pair.bed.destination();
        let found = [check(&replica, promise), check_age(&replica, &self.floor, promise)].concat();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "at {shown:?}, {quality}: {found:#?}\n{}", self.pair.told());
        *self.judged.entry(quality).or_default() += 1;
    }
}

#[test]
fn whoever_is_killed_at_whatever_moment_the_replica_is_a_whole_generation_none_older_than_was_acked() {
    let mut storm = Storm::new();
    for round in 0..kills() {
        storm.round(round);
        assert!(!storm.load.has_failed(), "{:?}", storm.load.stop());
    }
    let Storm { mut pair, load, judged, .. } = storm;
    let done = load.stop().unwrap();
    pair.converge();
    pair.assert_verified(&pair.primary);
    let replica = pair.bed.destination();
    assert_eq!([check(&replica, Promise::Instant), check_age(&replica, &done, Promise::Instant)].concat(), []);
    note(&format!("{} kills, {} steps of the load; replicas judged: {judged:?}", kills(), done.steps));
    assert!(judged.get("consistent").is_some_and(|count| *count > 0), "none was consistent: {judged:?}");
}

#[test]
fn a_standby_killed_in_its_first_sync_shows_nothing_or_all() {
    let mut pair = Pair::trusting();
    let mut dice = Dice::new(u64::from(std::process::id()) + 1);
    make(&pair.bed.source(), HomeSize::default(), 73).unwrap();
    for number in 0..1500 {
        let length = dice.index(40_000);
        build::file(&pair.bed.src(format!("many/{}/{number}", number % 30)), dice.noise(length));
    }
    pair.start_primary();
    for round in 0..kills().div_ceil(2) {
        pair.start_standby();
        nap(&mut dice, 800 * (usize::try_from(round).unwrap() + 1));
        let acked = acked(&pair);
        pair.primary.daemon().signal(Signal::STOP);
        pair.standby.kill();
        note(&format!("round {round}: killed after {acked:?} was acked"));
        pair.start_standby();
        if shown_whole(&mut pair, acked).is_some() {
            assert_eq!(check(&pair.bed.destination(), Promise::Instant), []);
        }
        pair.primary.daemon().signal(Signal::CONT);
        pair.standby.kill();
        if acked.is_some() {
            break;
        }
    }
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    pair.assert_verified(&pair.primary);
}
