//! Real Jenkins homes, each mirrored; they lie beside the project, in `shared/jenkins-homes` or where `HOTSPARE_TEST_HOMES` says.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bed, note, skip};

/// The homes of one collection: directories of directories.
fn homes() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/jenkins-homes");
    let collection = std::env::var_os("HOTSPARE_TEST_HOMES").map_or(beside, PathBuf::from);
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let mut homes: Vec<PathBuf> = below(&collection).iter().flat_map(|project| below(project)).collect();
    homes.sort();
    homes
}

#[test]
fn each_real_home_is_mirrored_once_and_equal() {
    let homes = homes();
    if homes.is_empty() {
        return skip("each_real_home_is_mirrored_once", "there are no homes beside the project");
    }
    for home in &homes {
        note(&home.display().to_string());
        let bed = Bed::new();
        copy(home, &bed.source());
        bed.mirror_once_and_compare();
    }
}

#[test]
fn all_real_homes_together_are_followed_live() {
    let homes = homes();
    if homes.is_empty() {
        return skip("all_real_homes_together", "there are no homes beside the project");
    }
    let bed = Bed::new();
    let mut running = bed.start(bed.mirror(&[]));
    for (number, home) in homes.iter().enumerate() {
        let to = bed.src(format!("home-{number}"));
        fs::create_dir(&to).unwrap();
        copy(home, &to);
        if number % 5 == 4 {
            fs::remove_dir_all(bed.src(format!("home-{}", number - 2))).unwrap();
            fs::rename(&to, bed.src("jobs")).ok();
        }
    }
    bed.wait_until_equal(&mut running);
    bed.assert_rsync_agrees();
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-aT").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr));
}
