//! A real process that takes generations and is killed at random moments (G1, G2).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::churn::Churn;
use super::primary::Generation;
use super::snapshot::differences;
use super::*;
use crate::thought::generation::{Header, Operation};

const DIRECTORY: &str = "HOTSPARE_TEST_KILLED";
const GENERATIONS: u64 = 25;
/// How often; `HOTSPARE_TEST_KILLS` asks for more.
const KILLS: usize = 40;

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    bytes.extend_from_slice(part);
}

fn get<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (part, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    *bytes = rest;
    part
}

pub(super) fn save(generation: &Generation, path: &Path) {
    let mut bytes = Vec::new();
    put(&mut bytes, &generation.header.encode());
    for (operation, payload) in &generation.operations {
        put(&mut bytes, &operation.encode());
        put(&mut bytes, payload.as_deref().unwrap_or_default());
    }
    fs::write(path, bytes).unwrap();
}

pub(super) fn load(path: &Path) -> Generation {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let header = Header::decode(get(&mut rest)).unwrap();
    let mut operations = Vec::new();
    while !rest.is_empty() {
        let operation = Operation::decode(get(&mut rest)).unwrap();
        let payload = get(&mut rest).to_vec();
        let payload = operation.payload.is_some().then_some(payload);
        operations.push((operation, payload));
    }
    Generation { header, operations }
}

#[test]
#[ignore = "the process that the test below kills"]
fn takes_generations_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let options = ReplicaOptions {
        home: directory.join("replica"),
        state: directory.join("state"),
        xattrs: XattrPolicy::default(),
        adopt: false,
        anew: false,
    };
    let (mut replica, _) = Replica::open(options, HOME).unwrap();
    let mut dice = Dice::new(u64::from(std::process::id()));
    loop {
        let next = replica.standing().position.generation + 1;
        let path = directory.join(format!("generation-{next}"));
        if !path.exists() {
            return;
        }
        let generation = load(&path);
        ack(&mut replica, &generation, &mut dice).unwrap();
        fs::write(directory.join("acked"), next.to_string()).unwrap();
        if dice.index(3) > 0 {
            while replica.reveal().unwrap().is_some() {}
        }
        if dice.index(3) == 0 {
            replica.tidy().unwrap();
        }
    }
}

#[test]
fn a_replica_that_is_killed_at_any_moment_is_at_a_whole_generation_after_that() {
    let ground = Ground::new();
    let directory = ground.directory.path().to_owned();
    let mut looks = vec![Snapshot::new()];
    let first = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), first.tree().root());
    drop(first);
    let mut churn = Churn { at: ground.source(), dice: Dice::new(11), is_root: rustix::process::geteuid().is_root() };
    for number in 1..=GENERATIONS {
        (0..if number == 1 { 80 } else { 15 }).for_each(|_| churn.step());
        save(&primary.generation(), &directory.join(format!("generation-{number}")));
        looks.push(ground.look_at_source());
    }
    let mut dice = Dice::new(5);
    let asked = std::env::var("HOTSPARE_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    let wanted: usize = asked.unwrap_or(KILLS);
    let (mut kills, mut laps) = (0, 0);
    while kills < wanted {
        for name in ["replica", "state", "acked"] {
            let path = directory.join(name);
            if path.is_dir() {
                Root::open(&directory).unwrap().remove_tree(&super::path(name)).unwrap();
                fs::create_dir(path).unwrap();
            } else {
                fs::remove_file(path).ok();
            }
        }
        laps += 1;
        loop {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "reveal::tests::killed::takes_generations_until_it_is_killed", "--ignored"])
                .env(DIRECTORY, &directory)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(dice.roll() % 300));
            let has_ended = child.try_wait().unwrap();
            child.kill().ok();
            child.wait().unwrap();
            if let Some(status) = has_ended {
                assert!(status.success());
            } else {
                kills += 1;
            }
            let replica = ground.open();
            let at = replica.standing().position.generation;
            let acked = fs::read_to_string(directory.join("acked")).ok().and_then(|text| text.parse::<u64>().ok());
            assert!(at >= acked.unwrap_or(0), "acked {acked:?}, and came back at {at}");
            if at > 0 {
                let expected = &looks[usize::try_from(at).unwrap()];
                assert_eq!(differences(expected, &ground.look()), Vec::<String>::new(), "generation {at}");
            }
            assert_eq!(ground.litter(), Vec::<String>::new());
            if at == GENERATIONS || kills == wanted {
                break;
            }
        }
    }
    println!("{kills} kills in {laps} laps");
}

/// For `strace -c -f`: leaves a generation of many small files where the process above finds it.
#[test]
#[ignore = "prepares a measurement by hand"]
fn a_generation_of_many_small_files() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    for name in ["source", "replica", "state"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    for number in 0..2000 {
        let job = directory.join(format!("source/{}", number / 50));
        fs::create_dir_all(&job).unwrap();
        fs::write(job.join(number.to_string()), Dice::new(number).noise(500)).unwrap();
    }
    let root = Root::open(&directory.join("replica")).unwrap();
    let row = root_row(&root);
    let mut primary = Primary::new(&directory.join("source"), &directory.join("state"), &row);
    save(&primary.generation(), &directory.join("generation-1"));
}
