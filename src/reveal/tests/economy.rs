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
    ack(&mut replica, &primary.generation(), &mut Random(1)).unwrap();
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
