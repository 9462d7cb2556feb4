//! The replica on a real file system, against a primary that is a directory and a tree in memory.
#![expect(clippy::disallowed_methods, reason = "tests make and change directories as other programs do")]

mod adoption;
mod ahead;
pub(crate) mod churn;
mod converge;
mod economy;
mod faulty;
mod hostile;
mod injected;
mod interrupt;
mod killed;
mod power;
pub(crate) mod primary;
mod simulated;
pub(crate) mod snapshot;
mod unprivileged;
mod unrevealed;

use std::path::PathBuf;

use tempfile::TempDir;

use super::{Opening, Records, Replica, ReplicaError, ReplicaOptions, Stager};
use crate::fs::{Root, XattrPolicy};
use crate::index::IndexError;
use crate::journal::JournalError;
use crate::spool::Spool;
use crate::thought::dice::Dice;
use crate::words::path::RelPath;
use crate::words::position::HomeId;
use primary::{Generation, Primary};
use snapshot::{Snapshot, snapshot};

pub(crate) const HOME: HomeId = HomeId([7; 16]);

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Where a pair lives: `source`, `replica`, `state`.
pub(crate) struct Ground {
    directory: TempDir,
}

/// Tries for a while: a process that another test starts holds our locks between its fork and its exec.
fn open_patiently(options: &ReplicaOptions) -> Result<(Replica, Opening), ReplicaError> {
    for _ in 0..500 {
        match Replica::open(options.clone(), HOME) {
            Err(ReplicaError::Journal(JournalError::Medium { source, .. }))
                if source.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(ReplicaError::Index(IndexError::InUse { .. })) => {}
            done => return done,
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Replica::open(options.clone(), HOME)
}

impl Ground {
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// One in a directory that is there.
    fn within(at: &std::path::Path) -> Self {
        let directory = tempfile::tempdir_in(at).unwrap();
        for name in ["source", "replica", "state"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.directory.path().join("replica")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn options(&self) -> ReplicaOptions {
        ReplicaOptions {
            home: self.replica(),
            state: self.state(),
            xattrs: XattrPolicy::default(),
            adopt: false,
            anew: false,
        }
    }

    fn try_open_with(&self, options: &ReplicaOptions) -> Result<(Replica, Opening), ReplicaError> {
        open_patiently(options)
    }

    fn try_open(&self) -> Result<(Replica, Opening), ReplicaError> {
        self.try_open_with(&self.options())
    }

    fn open(&self) -> Replica {
        self.try_open().unwrap().0
    }

    pub(crate) fn look(&self) -> Snapshot {
        snapshot(&Root::open(&self.replica()).unwrap())
    }

    pub(crate) fn look_at_source(&self) -> Snapshot {
        snapshot(&Root::open(&self.source()).unwrap())
    }

    /// What lies in the stage and under reveal, but for `held`.
    pub(crate) fn litter(&self) -> Vec<String> {
        let mut names = Vec::new();
        for area in ["stage", "reveal"] {
            for entry in std::fs::read_dir(self.replica().join(".hotspare").join(area)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name != "held" {
                    names.push(format!("{area}/{name}"));
                }
            }
        }
        names
    }

    fn bundles(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.replica().join(".hotspare/bundles")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// The row of an empty replica's root.
pub(crate) fn root_row(root: &Root) -> crate::thought::tree::Row {
    super::adopt::root_row(root, &XattrPolicy::default()).unwrap()
}

/// Stages all of a generation, the payloads in pieces of random size.
fn stage(replica: &mut Replica, generation: &Generation, dice: &mut Dice) -> Result<(Stager, Records), ReplicaError> {
    let mut stager = replica.begin(&generation.header)?;
    let mut records = Records::new(Spool::create(&std::env::temp_dir()).unwrap());
    for (operation, payload) in &generation.operations {
        records.push(operation.action.section(), &operation.encode()).unwrap();
        replica.stage(&mut stager, operation.clone())?;
        let Some(mut rest) = payload.as_deref() else { continue };
        loop {
            let count = dice.index(rest.len().min(200_000) + 1).max(1).min(rest.len());
            let is_whole = replica.stage_payload(&mut stager, &rest[..count])?;
            rest = &rest[count..];
            assert_eq!(is_whole, rest.is_empty(), "{operation:?}");
            if is_whole {
                break;
            }
        }
    }
    Ok((stager, records))
}

/// Stages a generation and makes it durable.
fn ack(replica: &mut Replica, generation: &Generation, dice: &mut Dice) -> Result<(), ReplicaError> {
    let (stager, records) = stage(replica, generation, dice)?;
    replica.commit(&generation.header, &records, stager)
}

/// Stages, acks, reveals and tidies up.
fn take(replica: &mut Replica, generation: &Generation, dice: &mut Dice) -> Result<(), ReplicaError> {
    ack(replica, generation, dice)?;
    while replica.reveal()?.is_some() {}
    replica.tidy()
}
