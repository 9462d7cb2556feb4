//! The power cut at every call of a standby's life, and at every call of the recovery after it (G1, G2).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::story::{Story, empty, story};
use crate::fs::tests::simulated::{Bed, Blow, Cut, Disk, Leaves, bed, blows, each, is_whole};
use crate::thought::dice::Dice;

/// All calls of a life on `disk` that change something, with the disk before each.
fn cuts(story: &Story, disk: Disk) -> Option<Vec<Cut>> {
    let bed = bed(disk.remember())?;
    bed.state().cuts = Some(Vec::new());
    drop(story.live(&bed).unwrap());
    bed.state().cuts.take()
}

#[test]
fn a_power_cut_at_any_call_leaves_a_whole_generation_none_older_than_was_acked() {
    cut_everywhere(empty(), 1, 1);
}

/// As on a home on a FUSE file system, where syncfs does nothing.
#[test]
fn a_power_cut_where_nothing_syncs_a_file_system_whole_loses_nothing_acked() {
    cut_everywhere(empty().without_syncfs(), 3, 2);
}

/// In short, one in so many.
fn cut_everywhere(disk: Disk, seed: u64, one_in: usize) {
    let story = story();
    let Some(cuts) = cuts(&story, disk) else { return };
    let mut dice = Dice::new(seed);
    let mut blows = blows(&cuts, &mut dice);
    blows.retain(|_| is_whole() || dice.index(one_in) == 0);
    println!("{} power cuts at {} calls", blows.len(), cuts.len());
    assert!(cuts.len() > 500 && blows.len() > 400, "{} cuts at {} calls", blows.len(), cuts.len());
    each(&blows, |blow| {
        let bed = Bed::mount(blow.disk()).unwrap();
        let takes_rest = is_whole() || blow.number % 8 == 0;
        story.check(&bed, blow.cut.acked, takes_rest).map_err(|why| format!("{}: {why}", blow.told()))
    });
}

#[test]
fn a_power_cut_at_any_call_of_the_recovery_loses_nothing_either() {
    let story = story();
    let Some(cuts) = cuts(&story, empty()) else { return };
    let mut dice = Dice::new(2);
    let all = blows(&cuts, &mut dice);
    // In the long form one way in which each cut can be, in short some of all.
    let count = if is_whole() { cuts.len() } else { 40 };
    let share = all.len() / count;
    let some: Vec<(&Blow, u64)> =
        (0..count).map(|number| (&all[number * share + dice.index(share)], number as u64)).collect();
    let checked = AtomicUsize::new(0);
    each(&some, |(blow, seed)| {
        let bed = Bed::mount(blow.disk().remember()).unwrap();
        bed.ack(blow.cut.acked);
        bed.state().cuts = Some(Vec::new());
        story.open(&bed).map_err(|why| format!("{}: {why}", blow.told()))?;
        let cuts = bed.state().cuts.take().unwrap_or_default();
        drop(bed);
        let mut dice = Dice::new(*seed);
        let tried = if is_whole() { cuts.len() } else { 6 };
        for number in 0..tried {
            let number = if is_whole() { number } else { dice.index(cuts.len().max(1)) };
            let Some(cut) = cuts.get(number) else { continue };
            let leaves = if number % 3 == 0 { Leaves::Nothing } else { Leaves::Some(dice.roll()) };
            let again = Blow { number, cut, leaves };
            let bed = Bed::mount(again.disk()).unwrap();
            let found = story.check(&bed, blow.cut.acked, number % 8 == 0);
            found.map_err(|why| format!("{}; then, recovering, {}: {why}", blow.told(), again.told()))?;
            checked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let checked = checked.into_inner();
    println!("{checked} power cuts in {} recoveries", some.len());
    assert!(checked > 100, "{checked} power cuts in {} recoveries", some.len());
}
