//! What a reveal costs, in calls: pinned by counting, not by timing.

use super::faulty::Faulty;
use super::*;
use crate::fs::Privilege;

/// The changes that a reveal makes of a generation of `files` new files in one new directory.
fn changes(files: usize) -> usize {
    let ground = Ground::new();
    std::fs::create_dir(ground.source().join("d")).unwrap();
    for number in 0..files {
        std::fs::write(ground.source().join(format!("d/{number}")), number.to_string()).unwrap();
    }
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    ack(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    let disk = Faulty::after(replica.root(), usize::MAX);
    replica.steps(&disk).unwrap();
    disk.made()
}

#[test]
fn a_new_file_is_revealed_by_one_rename() {
    if !Privilege::detect().override_modes {
        // Without privilege each directory is made writable first.
        return;
    }
    let alone = changes(0);
    assert!(alone <= 6, "{alone} changes for one directory");
    assert_eq!(changes(50), alone + 50);
}

/// A replica that has shown the removal of `files` files, and has not swept yet.
fn removed(ground: &Ground, files: usize) -> Replica {
    std::fs::create_dir(ground.source().join("d")).unwrap();
    for number in 0..files {
        std::fs::write(ground.source().join(format!("d/{number}")), "").unwrap();
    }
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    std::fs::remove_dir_all(ground.source().join("d")).unwrap();
    ack(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    replica.reveal().unwrap();
    replica.settle().unwrap();
    replica
}

#[test]
fn what_a_generation_replaced_is_removed_a_piece_at_a_time() {
    let ground = Ground::new();
    let mut replica = removed(&ground, 2500);
    let mut pieces = Vec::new();
    while replica.has_litter() {
        pieces.push(replica.sweep().unwrap());
    }
    assert!(pieces.iter().all(|count| *count <= 1001), "{pieces:?}");
    assert!(pieces.iter().sum::<u64>() > 2500, "{pieces:?}");
    assert_eq!(ground.litter(), Vec::<String>::new());
}

#[test]
fn what_was_not_removed_yet_is_gone_when_the_replica_is_opened_again() {
    let ground = Ground::new();
    let mut replica = removed(&ground, 1500);
    replica.sweep().unwrap();
    assert_ne!(ground.litter(), Vec::<String>::new());
    drop(replica);
    // Nothing but its name tells of it.
    drop(ground.open());
    assert_eq!(ground.litter(), Vec::<String>::new());
}
