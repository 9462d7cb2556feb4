//! The index by itself, as a primary has it too, under power cuts at every call: what opens as intact is the state of exactly one commit, none
//! older than the last that had returned. A stale or torn one is never trusted.

use crate::fs::tests::simulated::{Bed, Blow, Disk, Leaves, bed, blows, each};
use crate::index::{Index, Opened, Options};
use crate::thought::dice::Dice;
use crate::thought::store::{Pair, ReadStore, Store, Table};

/// Spilled by a few entries, so that every way to write the file comes up.
const SMALL: Options = Options { cache_bytes: 1 << 20, overlay_bytes: 2_000, overlay_cap_bytes: 4_000, check: true };
/// How often it is committed.
const COMMITS: usize = 25;
/// What is acked while a change is half made, after all commits.
const HALF: u64 = u64::MAX;
const NUMBER: &[u8] = b"number";

fn all(index: &Index) -> Vec<Vec<Pair>> {
    Table::ALL.iter().map(|table| index.scan(*table, b"", None, usize::MAX).unwrap()).collect()
}

fn open(bed: &Bed) -> Opened {
    Index::open_with(&bed.at("state/index.redb"), SMALL).unwrap()
}

/// Commits again and again; what it holds after each.
fn live(bed: &Bed) -> Vec<Vec<Vec<Pair>>> {
    let mut index = open(bed).into_index();
    let mut dice = Dice::new(1);
    let mut states = vec![all(&index)];
    for number in 1..=COMMITS {
        // Up to three times what is borne in memory.
        for _ in 0..dice.index(40) {
            let key = dice.index(60).to_be_bytes().to_vec();
            match dice.index(4) {
                0 => index.delete(Table::Rows, &key).unwrap(),
                _ => {
                    let count = dice.index(400);
                    index.put(Table::Rows, key, dice.noise(count)).unwrap();
                }
            }
        }
        index.put(Table::Facts, NUMBER.to_vec(), vec![u8::try_from(number).unwrap()]).unwrap();
        index.commit().unwrap();
        bed.ack(number as u64);
        states.push(all(&index));
    }
    // Closed in order with half a change spilled.
    bed.ack(HALF);
    for key in 0_usize..30 {
        index.put(Table::Rows, key.to_be_bytes().to_vec(), vec![7; 400]).unwrap();
    }
    drop(index);
    states
}

/// What opens there is one of the states, none older than the last acked, and takes another commit.
fn check(bed: &Bed, acked: u64, states: &[Vec<Vec<Pair>>]) -> Result<(), String> {
    let mut index = match open(bed) {
        Opened::Intact(index) => index,
        // Before the first commit there is nothing to trust.
        Opened::New(index) | Opened::Rebuilt { index, .. } if acked == 0 => index,
        // It was closed in order, which kept half a change.
        Opened::Rebuilt { why, .. } if acked == HALF && why.contains("middle of a change") => return Ok(()),
        other => return Err(format!("acked {acked}, and found {other:?}")),
    };
    let number = index.get(Table::Facts, NUMBER).unwrap().map_or(0, |number| number[0]);
    if u64::from(number) < acked.min(COMMITS as u64) || all(&index) != states[usize::from(number)] {
        return Err(format!("acked {acked}, and came back at {number}, or at no commit"));
    }
    index.put(Table::Facts, b"more".to_vec(), vec![1]).unwrap();
    index.commit().unwrap();
    drop(index);
    match open(bed) {
        Opened::Intact(index) if index.get(Table::Facts, b"more").unwrap() == Some(vec![1]) => Ok(()),
        other => Err(format!("then, closed in order: {other:?}")),
    }
}

#[test]
fn a_power_cut_at_any_call_of_an_index_leaves_one_commit_none_older_than_the_last() {
    let Some(bed) = bed(Disk::new(&["state"]).remember()) else { return };
    bed.state().cuts = Some(Vec::new());
    let states = live(&bed);
    let cuts = bed.state().cuts.take().unwrap();
    drop(bed);
    let mut dice = Dice::new(4);
    let blows = blows(&cuts, &mut dice);
    println!("{} power cuts at {} calls", blows.len(), cuts.len());
    assert!(blows.len() > 50, "{}", blows.len());
    each(&blows, |blow| {
        let bed = Bed::mount(blow.disk().remember()).unwrap();
        bed.state().cuts = Some(Vec::new());
        check(&bed, blow.cut.acked, &states).map_err(|why| format!("{}: {why}", blow.told()))?;
        // And again, at some call of what was done then.
        let cuts = bed.state().cuts.take().unwrap_or_default();
        drop(bed);
        let mut dice = Dice::new(blow.number as u64);
        let number = dice.index(cuts.len().max(1));
        let Some(cut) = cuts.get(number) else { return Ok(()) };
        let again = Blow { number, cut, leaves: Leaves::Some(dice.roll()) };
        let bed = Bed::mount(again.disk()).unwrap();
        match open(&bed) {
            Opened::Intact(_) => Ok(()),
            Opened::New(_) | Opened::Rebuilt { .. } if blow.cut.acked == 0 || blow.cut.acked == HALF => Ok(()),
            other => Err(format!("{}; then {}: {other:?}", blow.told(), again.told())),
        }
    });
}
