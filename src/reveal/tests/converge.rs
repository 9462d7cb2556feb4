//! Whatever changes on the primary, the replica becomes equal (G4), and opening it again finds it as it was (G1).

use std::process::Command;

use super::churn::Churn;
use super::primary::count;
use super::snapshot::differences;
use super::*;
use crate::thought::generation::Action;

fn is_privileged() -> bool {
    crate::fs::Privilege::detect().override_modes
}

/// Compares everything, and asks rsync for a second opinion.
fn assert_equal(ground: &Ground, seed: u64) {
    let differences = differences(&ground.look_at_source(), &ground.look());
    assert!(differences.is_empty(), "seed {seed}: {differences:#?}");
    let rsync = Command::new("rsync")
        .args(["-aHAXnic", "--delete", "--exclude=/.hotspare"])
        .arg(format!("{}/", ground.source().display()))
        .arg(format!("{}/", ground.replica().display()))
        .output();
    if let Ok(output) = rsync {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "seed {seed}");
    }
}

fn converge(seed: u64, generations: usize, steps: usize) -> [usize; 6] {
    let ground = Ground::new();
    let mut dice = Dice::new(seed);
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    let mut churn = Churn { at: ground.source(), dice: Dice::new(seed ^ 0xc0ffee), is_root: is_privileged() };
    let mut seen = [0; 6];
    for number in 0..generations {
        for _ in 0..if number == 0 { 60 } else { 1 + dice.index(steps) } {
            churn.step();
        }
        let generation = primary.generation();
        let kinds: [fn(&Action) -> bool; 6] = [
            |action| matches!(action, Action::Rename { .. }),
            |action| matches!(action, Action::Remove { .. }),
            |action| matches!(action, Action::Create { .. }),
            |action| matches!(action, Action::Link { .. }),
            |action| matches!(action, Action::Edit { .. }),
            |action| matches!(action, Action::Attributes { .. }),
        ];
        for (seen, kind) in seen.iter_mut().zip(kinds) {
            *seen += count(&generation, kind);
        }
        if let Err(error) = take(&mut replica, &generation, &mut dice) {
            panic!("seed {seed}, generation {number}: {error:?}");
        }
        assert_eq!(replica.standing().tree, generation.header.tree_after);
        assert_eq!(ground.litter(), Vec::<String>::new());
        assert_equal(&ground, seed);
        let standing = replica.standing();
        drop(replica);
        let (opened, opening) = ground.try_open().unwrap();
        assert_eq!((opened.standing(), opening), (standing, Opening::Recovered(0)), "seed {seed}");
        replica = opened;
        assert_eq!(ground.bundles(), Vec::<PathBuf>::new(), "seed {seed}");
    }
    seen
}

#[test]
fn any_change_arrives_and_stays() {
    let mut seen = [0; 6];
    for seed in 0..12 {
        let found = converge(seed, 12, 30);
        seen.iter_mut().zip(found).for_each(|(seen, found)| *seen += found);
    }
    assert!(seen.iter().all(|count| *count > 5), "every kind of operation should have been met: {seen:?}");
}

#[test]
fn a_path_beyond_path_max_arrives() {
    let ground = Ground::new();
    let source = Root::open(&ground.source()).unwrap();
    let mut deep = RelPath::root();
    for _ in 0..20 {
        deep = deep.join(&crate::words::path::Name::parse(&[b'd'; 255]).unwrap());
        source.make_directory(&deep, 0o755).unwrap();
    }
    let file = deep.join(&crate::words::path::Name::parse(b"file").unwrap());
    source.create_file(&file).unwrap().write_at(b"deep", 0).unwrap();
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    let (up, name) = deep.parent().unwrap().split().unwrap();
    source.rename(&up.join(&name), &path("short")).unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}
