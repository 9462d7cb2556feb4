//! Calls that fail (G1, G2): an error of any call, a full disk, one that becomes read-only, attributes that are refused. Whatever fails, once, for a
//! while or until somebody mends it: the error says what and why, what is acked stays so, and the replica goes on by itself.
//!
//! A sync that fails has lost what it was to make durable, as on Linux: a second one does not bring it back. So in the end the power is cut as well,
//! and leaves nothing of what no sync has promised.

use std::error::Error;

use rustix::io::Errno;

use super::super::snapshot::{differences, without_attributes, without_lone_links};
use super::super::*;
use super::story::{Story, empty, story};
use crate::fs::tests::simulated::{Bed, Calls, Fault, Leaves, bed, each, is_whole};
use crate::thought::dice::Dice;
use crate::thought::wire::message::UnheldCounts;

/// How often a life is begun while a fault lasts.
const LIVES: usize = 3;

fn explain(error: &ReplicaError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Lives amid the fault, in the manner of a holder: after an error the replica is opened again.
fn live_amid(story: &Story, bed: &Bed, fault: Fault) -> Result<(), String> {
    bed.state().fault = Some(fault);
    for _ in 0..LIVES {
        let Err(error) = story.live(bed) else { break };
        let text = explain(&error);
        // What it is, in the words of the system; which is the last of the chain.
        let word = std::io::Error::from(fault.error).to_string();
        if !text.contains(&word) {
            return Err(format!("an error that does not say why: {text}"));
        }
    }
    bed.state().fault = None;
    Ok(())
}

/// One fault in one life; true if it was met.
fn suffer(story: &Story, fault: Fault) -> Result<bool, String> {
    let bed = Bed::mount(empty().remember()).unwrap();
    live_amid(story, &bed, fault)?;
    let acked = bed.acked();
    story.check(&bed, acked, true)?;
    let is_met = bed.state().failed > 0;
    let cut = bed.state().disk.after_power_cut(Leaves::Nothing);
    drop(bed);
    let bed = Bed::mount(cut).unwrap();
    story.check(&bed, story.generations.len() as u64, false).map_err(|why| format!("after a power cut: {why}"))?;
    Ok(is_met)
}

/// Tries the fault at the calls of a life that are counted, in short at about so many, and once at each sync if those are what is counted.
fn sweep(calls: Calls, error: Errno, seed: u64, some: usize) {
    let story = story();
    let Some(counting) = bed(empty()) else { return };
    counting.state().fault = Some(Fault { calls, from: usize::MAX, count: 0, error });
    counting.state().cuts = Some(Vec::new());
    drop(story.live(&counting).unwrap());
    let count = counting.state().counted;
    let changes = counting.state().cuts.take().unwrap();
    drop(counting);
    let mut dice = Dice::new(seed);
    let all = (0..count).filter(|_| is_whole() || dice.index(count) < some);
    // Once, for as long as one try takes, until it is mended.
    let lasting = [1, 40, usize::MAX];
    let mut faults: Vec<Fault> = all.map(|from| Fault { calls, from, count: lasting[from % 3], error }).collect();
    if calls == Calls::Changes {
        let syncs = changes.iter().enumerate().filter(|(_, change)| change.call.contains("sync"));
        faults.extend(syncs.map(|(from, _)| Fault { calls, from, count: 1, error }));
    }
    println!("{error:?} at {} of {count} calls", faults.len());
    assert!(count > 20 && faults.len() > some / 2, "{} of {count}", faults.len());
    each(&faults, |fault| match suffer(&story, *fault) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{fault:?}: it was never met")),
        Err(why) => Err(format!("{fault:?}: {why}")),
    });
}

#[test]
fn an_error_of_any_call_of_a_disk_leaves_what_was_acked_and_is_survived() {
    sweep(Calls::All, Errno::IO, 1, 70);
}

#[test]
fn a_disk_that_is_full_at_any_call_leaves_what_was_acked_and_is_survived() {
    sweep(Calls::Changes, Errno::NOSPC, 2, 40);
}

#[test]
fn a_disk_that_becomes_read_only_at_any_call_leaves_what_was_acked_and_is_survived() {
    sweep(Calls::Changes, Errno::ROFS, 3, 20);
}

/// Owners and extended attributes are not held where they are refused: that is told, and nothing else is missing.
#[test]
fn attributes_that_are_refused_at_any_call_are_told_and_nothing_else_is_lost() {
    let story = story();
    let Some(counting) = bed(empty()) else { return };
    let calls = Calls::Attributes;
    counting.state().fault = Some(Fault { calls, from: usize::MAX, count: 0, error: Errno::PERM });
    assert!(story.live(&counting).unwrap().unheld() == UnheldCounts::default());
    let count = counting.state().counted;
    drop(counting);
    assert!(count >= 5, "{count}");
    let faults: Vec<Fault> = (0..count)
        .flat_map(|from| [(from, 1, Errno::PERM), (from, 1, Errno::OPNOTSUPP), (from, usize::MAX, Errno::PERM)])
        .map(|(from, count, error)| Fault { calls, from, count, error })
        .collect();
    each(&faults, |fault| {
        let bed = Bed::mount(empty()).unwrap();
        bed.state().fault = Some(*fault);
        let replica = story.live(&bed).map_err(|error| format!("{fault:?}: {}", explain(&error)))?;
        assert!(bed.state().failed > 0);
        let found = without_lone_links(snapshot(replica.root()));
        let expected = &story.looks[story.generations.len()];
        // Refused once, it may be given when its directory settles.
        if replica.unheld() == UnheldCounts::default() && *expected != found {
            return Err(format!("{fault:?}: nobody was told"));
        }
        let differences = differences(&without_attributes(expected.clone()), &without_attributes(found));
        if differences.is_empty() { Ok(()) } else { Err(format!("{fault:?}: {differences:#?}")) }
    });
}
