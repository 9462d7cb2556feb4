//! A real process whose system calls fail, or which is killed at them, one after the other (G1, G2): `strace` makes it so.
//!
//! Whatever call fails in whatever way, at staging, journalling, syncing, revealing or tidying, the replica is at a whole generation when it is
//! opened again, at none older than was acked, and takes the rest. Without `strace` this is skipped. `HOTSPARE_TEST_FAULTS=all` tries every call;
//! else a few hundred, spread by a seed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::interrupt::{furnish, rearrange};
use super::killed::{load, save};
use super::primary::Generation;
use super::snapshot::{differences, without_lone_links};
use super::*;

const DIRECTORY: &str = "HOTSPARE_TEST_INJECTED";
const GENERATIONS: u64 = 4;
/// The calls that are made to fail.
const CALLS: [&str; 20] = [
    "openat2",
    "openat",
    "pwrite64",
    "write",
    "pread64",
    "renameat2",
    "renameat",
    "mkdirat",
    "unlinkat",
    "linkat",
    "fchmod",
    "fchmodat",
    "utimensat",
    "fchownat",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "statx",
];

fn generation(directory: &Path, number: u64) -> Generation {
    load(&directory.join(format!("generation-{number}")))
}

fn options(directory: &Path) -> ReplicaOptions {
    let (home, state) = (directory.join("lap/replica"), directory.join("lap/state"));
    ReplicaOptions { home, state, xattrs: XattrPolicy::default(), adopt: false, anew: false }
}

/// Takes generations as a holder does: what cannot be staged is tried again, anything else is the end.
fn take_all(directory: &Path) -> Result<(), ReplicaError> {
    let (mut replica, _) = Replica::open(options(directory), HOME)?;
    for number in 1..=GENERATIONS {
        let generation = generation(directory, number);
        let staged = stage(&mut replica, &generation, &mut Dice::new(number));
        let (stager, records) = match staged {
            Ok(staged) => staged,
            Err(_) => stage(&mut replica, &generation, &mut Dice::new(number))?,
        };
        replica.commit(&generation.header, &records, stager)?;
        fs::write(directory.join("lap/acked"), number.to_string())?;
        // The others are staged upon what is not revealed.
        if number == 1 {
            while replica.reveal()?.is_some() {}
            replica.tidy()?;
        }
    }
    while replica.reveal()?.is_some() {}
    replica.tidy()
}

#[test]
#[ignore = "the process whose calls fail in the tests below"]
fn takes_generations_amid_faults() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    if let Err(error) = take_all(&directory) {
        println!("{error:?}");
        std::process::exit(3);
    }
}

/// Generations and how the home looks after each.
struct Story {
    ground: Ground,
    looks: Vec<Snapshot>,
}

fn story() -> Story {
    let ground = Ground::new();
    let source = ground.source();
    let root = Root::open(&ground.replica()).unwrap();
    let mut primary = Primary::new(&source, &ground.state(), &root_row(&root));
    let mut looks = vec![Snapshot::new()];
    for number in 1..=GENERATIONS {
        match number {
            1 => furnish(&source),
            2 => rearrange(&source),
            3 => {
                let log = fs::OpenOptions::new().append(true).open(source.join("log.1")).unwrap();
                std::io::Write::write_all(&mut &log, b"one line more\n").unwrap();
                fs::rename(source.join("log.1"), source.join("log.2")).unwrap();
                fs::remove_dir_all(source.join("kind")).unwrap();
            }
            _ => {
                fs::rename(source.join("jobs"), source.join("works")).unwrap();
                fs::write(source.join("works/new/y"), "again").unwrap();
            }
        }
        save(&primary.generation(), &ground.directory.path().join(format!("generation-{number}")));
        looks.push(ground.look_at_source());
    }
    Story { ground, looks }
}

impl Story {
    /// One process with one fault; false if it never came to that.
    fn lap(&self, fault: &str) -> bool {
        let directory = self.ground.directory.path();
        let lap = directory.join("lap");
        if lap.exists() {
            Root::open(directory).unwrap().remove_tree(&path("lap")).unwrap();
        }
        for name in ["lap", "lap/replica", "lap/state"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let call = fault.split(':').next().unwrap_or_default();
        let status = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={fault}")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "reveal::tests::injected::takes_generations_amid_faults", "--ignored"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let acked = fs::read_to_string(lap.join("acked")).ok().and_then(|text| text.parse::<u64>().ok());
        if status.success() && acked == Some(GENERATIONS) {
            self.check(fault, GENERATIONS);
            return false;
        }
        self.check(fault, acked.unwrap_or(0));
        true
    }

    fn check(&self, fault: &str, acked: u64) {
        let directory = self.ground.directory.path();
        let (mut replica, _) =
            self.ground.try_open_with(&options(directory)).unwrap_or_else(|error| panic!("{fault}: {error:?}"));
        let at = replica.standing().position.generation;
        assert!(at >= acked, "{fault}: acked {acked}, and came back at {at}");
        let look = || snapshot(&Root::open(&directory.join("lap/replica")).unwrap());
        if at > 0 {
            let expected = &self.looks[usize::try_from(at).unwrap()];
            assert_eq!(differences(expected, &without_lone_links(look())), Vec::<String>::new(), "{fault}, at {at}");
        }
        let litter = |area: &str| fs::read_dir(directory.join("lap/replica/.hotspare").join(area)).unwrap().count();
        assert_eq!((litter("stage"), litter("reveal")), (1, 0), "{fault}, at {at}");
        for number in at + 1..=GENERATIONS {
            let taken = take(&mut replica, &generation(directory, number), &mut Dice::new(number));
            taken.unwrap_or_else(|error| panic!("{fault}, from {at} to {number}: {error:?}"));
        }
        assert_eq!(differences(&self.looks[self.looks.len() - 1], &look()), Vec::<String>::new(), "{fault}, from {at}");
        // What was there before the index was first finished belongs to nobody, and is put aside.
        let has_bundles = directory.join("lap/replica/.hotspare/bundles").exists();
        assert!(at == 0 || !has_bundles, "{fault}, from {at}: something was in the way");
    }
}

/// Tries `what` at the calls of `CALLS`, one after the other.
fn sweep(what: &str, seed: u64) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: calls cannot be made to fail, for there is no strace");
        return;
    }
    let story = story();
    let is_whole = std::env::var_os("HOTSPARE_TEST_FAULTS").is_some_and(|which| which == "all");
    let mut dice = Dice::new(seed);
    let (mut laps, mut met) = (0, 0);
    for call in CALLS {
        let mut at = 1;
        loop {
            laps += 1;
            // What fails once may fail for good: every other fault does not end.
            let for_good = if at % 2 == 0 && !what.starts_with("signal") { "+" } else { "" };
            if !story.lap(&format!("{call}:{what}:when={at}{for_good}")) {
                if for_good.is_empty() {
                    break;
                }
                at += 1;
                continue;
            }
            met += 1;
            at += if is_whole { 1 } else { 1 + dice.index(150) };
        }
    }
    println!("{what}: {met} faults met in {laps} laps");
    assert!(met > 10, "{what}: {met} faults met in {laps} laps");
}

#[test]
fn an_error_of_any_call_leaves_a_whole_generation_and_what_was_acked() {
    sweep("error=EIO", 1);
}

#[test]
fn a_full_disk_at_any_call_leaves_a_whole_generation_and_what_was_acked() {
    sweep("error=ENOSPC", 2);
}

#[test]
fn a_disk_that_becomes_read_only_at_any_call_leaves_a_whole_generation_and_what_was_acked() {
    sweep("error=EROFS", 3);
}

#[test]
fn a_kill_at_any_call_leaves_a_whole_generation_and_what_was_acked() {
    sweep("signal=KILL", 4);
}
