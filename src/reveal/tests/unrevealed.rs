//! Generations staged upon others that are not revealed: bases, references and renames lead through them (G1, G2).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::churn::Churn;
use super::faulty::Faulty;
use super::primary::count;
use super::snapshot::{differences, without_lone_links};
use super::*;
use crate::thought::generation::{Action, Content};

struct Pair {
    ground: Ground,
    replica: Replica,
    primary: Primary,
    churn: Churn,
    dice: Dice,
}

fn pair(seed: u64) -> Pair {
    let ground = Ground::new();
    let replica = ground.open();
    let primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let is_root = crate::fs::Privilege::detect().override_modes;
    let mut churn = Churn { at: ground.source(), dice: Dice::new(seed ^ 0x5eed), is_root };
    (0..60).for_each(|_| churn.step());
    let mut pair = Pair { ground, replica, primary, churn, dice: Dice::new(seed) };
    pair.ack().unwrap();
    while pair.replica.reveal().unwrap().is_some() {}
    pair
}

impl Pair {
    /// What the primary says that there is: the source, but for what it took samples of.
    fn expected(&self) -> Snapshot {
        let mut look = self.ground.look_at_source();
        for (path, facts) in &mut look {
            let content = self.primary.tree.row(path).unwrap().and_then(|row| row.entry.content());
            facts.content = content.unwrap_or(facts.content);
        }
        without_lone_links(look)
    }

    /// Acks what changed; `None` if what the primary took samples of turns out to be something else, upon whatever it is staged: it would be
    /// asked for whole.
    fn ack(&mut self) -> Option<Generation> {
        let generation = self.primary.generation();
        if let Err(error) = ack(&mut self.replica, &generation, &mut self.dice) {
            while self.replica.reveal().unwrap().is_some() {}
            let again = ack(&mut self.replica, &generation, &mut self.dice);
            let is_so_in_any_case = matches!(again, Err(ReplicaError::Mismatch { .. }));
            assert!(is_so_in_any_case, "{error:?}, and when all is revealed {again:?}");
            return None;
        }
        Some(generation)
    }
}

#[test]
fn generations_staged_upon_others_that_are_not_revealed_come_out_as_if_they_were() {
    let mut through = [0; 4];
    'seeds: for seed in 0..10 {
        let mut pair = pair(seed);
        for lap in 0..4 {
            let before = pair.ground.look();
            let (mut looks, mut held) = (Vec::new(), 0);
            for number in 0..2 + pair.dice.index(8) {
                (0..1 + pair.dice.index(12)).for_each(|_| pair.churn.step());
                let Some(generation) = pair.ack() else { continue 'seeds };
                looks.push(pair.expected());
                let kinds: [fn(&Action) -> bool; 4] = [
                    |action| matches!(action, Action::Rename { .. }),
                    |action| matches!(action, Action::Link { .. }),
                    |action| matches!(action, Action::Edit { .. }),
                    |action| matches!(action, Action::Create { content: Content::Held | Content::Delta { .. }, .. }),
                ];
                if number > 0 {
                    through.iter_mut().zip(kinds).for_each(|(through, kind)| *through += count(&generation, kind));
                }
                held += 1;
                assert_eq!(pair.replica.unrevealed(), held);
            }
            assert_eq!(differences(&before, &pair.ground.look()), Vec::<String>::new(), "an ack reveals nothing");
            for (number, look) in looks.iter().enumerate() {
                pair.replica.reveal().unwrap_or_else(|error| panic!("seed {seed}, lap {lap}, {number}: {error:?}"));
                let differences = differences(look, &without_lone_links(pair.ground.look()));
                assert!(differences.is_empty(), "seed {seed}, lap {lap}, generation {number}: {differences:#?}");
            }
            assert_eq!(pair.replica.unrevealed(), 0);
            if lap % 2 == 0 {
                pair.replica.tidy().unwrap();
                assert_eq!(pair.ground.litter(), Vec::<String>::new());
            }
        }
        assert_eq!(pair.ground.bundles(), Vec::<PathBuf>::new(), "seed {seed}");
    }
    println!("renames, links, edits, bases and references upon unrevealed generations: {through:?}");
    assert!(through.iter().all(|count| *count > 5), "{through:?}");
}

/// A change of one of the large files of `furnish`, each of which leads through what the ones before it left.
fn lead_on(at: &Path, number: u64) {
    let open = |name: &str| fs::OpenOptions::new().write(true).open(at.join(name)).unwrap();
    let rename = |from: &str, to: &str| fs::rename(at.join(from), at.join(to)).unwrap();
    // A log that grows, under one name after the other, in a directory that moves.
    let (from, to) = if number.is_multiple_of(2) { ("logs", "jobs/logs") } else { ("jobs/logs", "logs") };
    rename(from, to);
    rename(&format!("{to}/log.{number}"), &format!("{to}/log.{}", number + 1));
    let log = open(&format!("{to}/log.{}", number + 1));
    let end = log.metadata().unwrap().len();
    log.write_all_at(&Dice::new(number).noise(3000), end).unwrap();
    // Patches over patches, under either of two names.
    let name = if number.is_multiple_of(2) { "data" } else { "data too" };
    open(name).write_all_at(&Dice::new(number + 50).noise(9000), 300_000 + number * 4000).unwrap();
    // A file that was made in the generation before, rewritten with something put in; and copies of what is there.
    let old = if number == 0 { "archive".to_owned() } else { format!("archive.{number}") };
    let mut longer = fs::read(at.join(&old)).unwrap();
    longer.splice(5..5, format!("put in {number}").into_bytes());
    fs::write(at.join(format!("archive.{}", number + 1)), longer).unwrap();
    fs::copy(at.join(&old), at.join(format!("copy.{number}"))).unwrap();
    if number > 1 {
        fs::remove_file(at.join(format!("archive.{}", number - 1))).unwrap();
    }
}

#[test]
fn appends_patches_bases_and_references_lead_through_what_is_not_revealed() {
    const GENERATIONS: u64 = 12;
    for crash in [false, true] {
        let ground = Ground::new();
        let at = ground.source();
        for directory in ["logs", "jobs"] {
            fs::create_dir(at.join(directory)).unwrap();
        }
        for (number, name) in (1..).zip(["logs/log.0", "data", "archive"]) {
            fs::write(at.join(name), Dice::new(number).noise(1_300_000)).unwrap();
        }
        fs::hard_link(at.join("data"), at.join("data too")).unwrap();
        let mut replica = ground.open();
        let mut primary = Primary::new(&at, &ground.state(), replica.tree().root());
        take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
        let before = ground.look();
        let (mut looks, mut kinds) = (Vec::new(), [0; 3]);
        for number in 0..GENERATIONS {
            lead_on(&at, number);
            let generation = primary.generation();
            kinds[0] += count(&generation, |action| matches!(action, Action::Edit { .. }));
            kinds[1] += count(&generation, |action| {
                matches!(action, Action::Create { content: Content::Delta { .. } | Content::Held, .. })
            });
            kinds[2] += count(&generation, |action| matches!(action, Action::Rename { .. }));
            ack(&mut replica, &generation, &mut Dice::new(number)).unwrap();
            looks.push(ground.look_at_source());
        }
        assert!(kinds.iter().all(|count| *count as u64 >= GENERATIONS), "{kinds:?}");
        assert_eq!(differences(&before, &ground.look()), Vec::<String>::new());
        for look in looks.iter().take(if crash { 5 } else { looks.len() }) {
            replica.reveal().unwrap();
            assert_eq!(differences(look, &without_lone_links(ground.look())), Vec::<String>::new());
        }
        if crash {
            replica.steps(&Faulty::after(replica.root(), 9)).unwrap_err();
            drop(replica);
            replica = ground.open();
        }
        assert_eq!(differences(looks.last().unwrap(), &ground.look()), Vec::<String>::new());
        replica.tidy().unwrap();
        assert_eq!(ground.litter(), Vec::<String>::new());
    }
}

#[test]
fn a_crash_amid_several_unrevealed_generations_leaves_the_newest_that_was_acked() {
    'seeds: for seed in 100..115 {
        let mut pair = pair(seed);
        for _ in 0..2 + pair.dice.index(5) {
            (0..1 + pair.dice.index(10)).for_each(|_| pair.churn.step());
            if pair.ack().is_none() {
                continue 'seeds;
            }
        }
        let (position, expected) = (pair.replica.standing().position, pair.expected());
        // Some are revealed, one half way; one more is staged, and not acked.
        for _ in 0..pair.dice.index(3) {
            pair.replica.reveal().unwrap();
        }
        let steps = pair.dice.index(30);
        pair.replica.steps(&Faulty::after(pair.replica.root(), steps)).ok();
        if pair.dice.index(2) == 0 && pair.replica.unrevealed() > 0 {
            // A second attempt, cut off as well.
            let steps = pair.dice.index(30);
            pair.replica.steps(&Faulty::after(pair.replica.root(), steps)).ok();
        }
        (0..3).for_each(|_| pair.churn.step());
        let generation = pair.primary.generation();
        stage(&mut pair.replica, &generation, &mut pair.dice).ok();
        let Pair { ground, replica, .. } = pair;
        drop(replica);
        let (replica, opening) = ground.try_open().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert!(matches!(opening, Opening::Recovered(_)), "seed {seed}: {opening:?}");
        assert_eq!(replica.standing().position, position, "seed {seed}");
        let differences = differences(&expected, &without_lone_links(ground.look()));
        assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
        assert_eq!(ground.litter(), Vec::<String>::new(), "seed {seed}");
        assert_eq!(ground.bundles(), Vec::<PathBuf>::new(), "seed {seed}");
    }
}
