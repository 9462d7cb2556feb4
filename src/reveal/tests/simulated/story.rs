//! What a replica on a simulated disk goes through: five generations of every kind of change, taken as a holder takes them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};

use super::super::ahead::{Sent, parted, send};
use super::super::interrupt::{furnish, rearrange};
use super::super::primary::Generation;
use super::super::snapshot::{differences, without_lone_links};
use super::super::*;
use crate::fs::tests::simulated::{Bed, Disk};

/// Generations, and how the home looks after each.
pub(super) struct Story {
    pub(super) generations: Vec<Generation>,
    pub(super) looks: Vec<Snapshot>,
    /// What is sent ahead of the last.
    ahead: Vec<Sent>,
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn mark(path: &Path, value: &[u8]) {
    setxattr(path, "user.mark", value, XattrFlags::empty()).unwrap();
}

/// Only root gives files away, and only root mounts a simulated disk.
fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).ok();
}

/// What happens at the primary before generation `number`.
fn happens(at: &Path, number: usize) {
    match number {
        1 => {
            furnish(at);
            symlink("log", at.join("last")).unwrap();
            mark(&at.join("left"), b"one");
            give(&at.join("one"), 1000);
            // More than is synced one by one where a file system can be synced whole.
            (0..8).for_each(|number| fs::write(at.join(format!("small.{number}")), "small").unwrap());
        }
        2 => {
            rearrange(at);
            fs::remove_file(at.join("last")).unwrap();
            symlink("log.1", at.join("last")).unwrap();
            mark(&at.join("data"), b"two");
        }
        3 => {
            append(&at.join("log.1"), b"and another\n");
            fs::rename(at.join("log.1"), at.join("log.2")).unwrap();
            patch(&at.join("data"), 700_003, b"upon it");
            fs::remove_dir_all(at.join("kind")).unwrap();
            mark(&at.join("right"), b"three");
            give(&at.join("data"), 1001);
        }
        4 => {
            for (from, to) in [("left", "aside"), ("right", "left"), ("aside", "right"), ("jobs", "works")] {
                fs::rename(at.join(from), at.join(to)).unwrap();
            }
            patch(&at.join("archive"), 300_000, b"written over");
            fs::write(at.join("works/new/y"), "again").unwrap();
        }
        _ => {
            fs::write(at.join("ahead"), Dice::new(4).noise(300_000)).unwrap();
            fs::write(at.join("works/ahead"), "a small one").unwrap();
            append(&at.join("log.2"), b"the end\n");
        }
    }
}

pub(super) fn story() -> Story {
    let ground = Ground::new();
    let root = Root::open(&ground.replica()).unwrap();
    let mut primary = Primary::new(&ground.source(), &ground.state(), &root_row(&root));
    let mut story = Story { generations: Vec::new(), looks: vec![Snapshot::new()], ahead: Vec::new() };
    for number in 1..=5 {
        happens(&ground.source(), number);
        story.generations.push(primary.generation());
        story.looks.push(ground.look_at_source());
    }
    let (last, ahead) = parted(story.generations.pop().unwrap());
    story.generations.push(last);
    story.ahead = ahead;
    story
}

/// A disk on which nothing has happened yet.
pub(super) fn empty() -> Disk {
    Disk::new(&["replica", "state"])
}

pub(super) fn options(bed: &Bed) -> ReplicaOptions {
    ReplicaOptions {
        home: bed.at("replica"),
        state: bed.at("state"),
        xattrs: XattrPolicy::default(),
        adopt: false,
        anew: false,
    }
}

impl Story {
    /// Sends what goes ahead of generation `number`, unless it is there.
    fn send_ahead(&self, replica: &mut Replica, number: usize) -> Result<(), ReplicaError> {
        if number == self.generations.len() {
            for sent in &self.ahead {
                if !replica.has_ahead(sent.content.digest)? {
                    send(replica, sent, sent.packed.len())?;
                }
            }
        }
        Ok(())
    }

    /// Stages a generation and makes it durable, with what goes ahead of it. Of what came ahead of a power cut only its digest says whether it is
    /// whole: where it is not, it is sent again.
    fn take_in(&self, replica: &mut Replica, generation: &Generation) -> Result<(), ReplicaError> {
        let number = generation.header.position.generation;
        let mut tries = 0..=self.ahead.len();
        loop {
            self.send_ahead(replica, usize::try_from(number).unwrap())?;
            match ack(replica, generation, &mut Dice::new(number)) {
                Err(ReplicaError::Lacking { .. }) if tries.next().is_some() => {}
                acked => return acked,
            }
        }
    }

    /// A life from opening the replica on, at whatever generation it is. Some generations are staged upon others that are not revealed, some
    /// revealed and not tidied up.
    pub(super) fn live(&self, bed: &Bed) -> Result<Replica, ReplicaError> {
        let (mut replica, _) = open_patiently(&options(bed))?;
        let at = usize::try_from(replica.standing().position.generation).unwrap();
        for (number, generation) in self.generations.iter().enumerate().skip(at) {
            let number = number + 1;
            self.take_in(&mut replica, generation)?;
            bed.ack(number as u64);
            if number != 2 {
                while replica.reveal()?.is_some() {}
            }
            if number == 1 || number == 4 {
                replica.tidy()?;
            }
        }
        Ok(replica)
    }

    /// Opens the replica, which recovers it.
    pub(super) fn open(&self, bed: &Bed) -> Result<Replica, String> {
        let opened = open_patiently(&options(bed));
        opened.map(|(replica, _)| replica).map_err(|error| format!("opening: {error:?}"))
    }

    /// The replica on this bed is at one generation, none older than `acked`, and takes the rest if it is to.
    pub(super) fn check(&self, bed: &Bed, acked: u64, takes_rest: bool) -> Result<(), String> {
        let replica = self.open(bed)?;
        let at = replica.standing().position.generation;
        if at < acked {
            return Err(format!("acked {acked}, and came back at {at}"));
        }
        let look = || snapshot(&Root::open(&bed.at("replica")).unwrap());
        self.compare(at, &without_lone_links(look()))?;
        let litter = |area: &str| fs::read_dir(bed.at("replica/.hotspare").join(area)).unwrap().count();
        if (litter("stage"), litter("reveal")) != (1, 0) {
            return Err(format!("litter at {at}"));
        }
        if takes_rest {
            drop(replica);
            self.live(bed).map(drop).map_err(|error| format!("taking the rest from {at} on: {error:?}"))?;
            self.compare(self.generations.len() as u64, &without_lone_links(look()))?;
        }
        match bed.at("replica/.hotspare/bundles").exists() {
            true => Err(format!("from {at}: something was in the way")),
            false => Ok(()),
        }
    }

    fn compare(&self, at: u64, found: &Snapshot) -> Result<(), String> {
        let differences = match at {
            0 => found.keys().filter(|path| !path.is_root()).map(ToString::to_string).collect(),
            _ => differences(&self.looks[usize::try_from(at).unwrap()], found),
        };
        if differences.is_empty() { Ok(()) } else { Err(format!("at {at}: {differences:#?}")) }
    }
}
