//! A disk whose power can be cut: what is live, what is durable, and what is on its way.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::journal::medium::Medium;
use crate::thought::dice::Dice;

/// A change of a file that no sync has made durable.
#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, new) => {
                let end = offset + new.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(new);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

#[derive(Clone, Default, Debug)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Clone, Default, Debug)]
struct Disk {
    inodes: Vec<Inode>,
    live_names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: usize,
    /// From which call on, with what, and whether for ever.
    fault: Option<(usize, io::ErrorKind, bool)>,
}

/// What a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// No power cut: the process died.
    None,
    /// Only what was synced.
    Unsynced,
    /// Any part of what was not synced.
    Torn(u64),
}

/// The disk; clones share it.
#[derive(Clone, Default, Debug)]
pub(super) struct Sim(Arc<Mutex<Disk>>);

impl Sim {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> usize {
        self.disk().calls
    }

    /// Lets the call with this number, and all later ones if `for_ever`, fail.
    pub(super) fn fail_at(&self, call: usize, kind: io::ErrorKind, for_ever: bool) {
        self.disk().fault = Some((call, kind, for_ever));
    }

    /// The disk after a power cut, running well again.
    pub(super) fn after(&self, cut: Cut) -> Self {
        let disk = self.disk();
        let mut dice = Dice::new(if let Cut::Torn(seed) = cut { seed } else { 0 });
        let mut names = disk.durable_names.clone();
        match cut {
            Cut::None => names.clone_from(&disk.live_names),
            Cut::Unsynced => {}
            Cut::Torn(_) => {
                for (name, &inode) in &disk.live_names {
                    if !names.contains_key(name) && dice.one_in(2) {
                        names.insert(name.clone(), inode);
                    }
                }
                names.retain(|name, _| disk.live_names.contains_key(name) || dice.one_in(2));
            }
        }
        let survive = |inode: &Inode| match cut {
            Cut::None => inode.clone(),
            Cut::Unsynced => settled(inode.durable.clone()),
            Cut::Torn(_) => settled(inode.tear(&mut dice)),
        };
        let inodes = disk.inodes.iter().map(survive).collect();
        Self(Arc::new(Mutex::new(Disk {
            inodes,
            live_names: names.clone(),
            durable_names: if matches!(cut, Cut::None) { disk.durable_names.clone() } else { names },
            calls: 0,
            fault: None,
        })))
    }

    /// The names of all files, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.disk().live_names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.inodes[disk.live_names[name]].live.clone()
    }

    /// Puts a durable file there, or takes it away.
    pub(super) fn set(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut disk = self.disk();
        disk.live_names.remove(name);
        disk.durable_names.remove(name);
        if let Some(bytes) = bytes {
            disk.inodes.push(settled(bytes));
            let inode = disk.inodes.len() - 1;
            disk.live_names.insert(name.into(), inode);
            disk.durable_names.insert(name.into(), inode);
        }
    }

    fn call(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        let call = disk.calls;
        disk.calls += 1;
        match disk.fault {
            Some((at, kind, for_ever)) if call == at || (for_ever && call > at) => Err(kind.into()),
            _ => Ok(disk),
        }
    }

    fn change(&self, name: &str, change: Pending) -> io::Result<()> {
        let failed = match self.call() {
            Ok(mut disk) => {
                let inode = disk.inode(name)?;
                change.apply(&mut inode.live);
                inode.pending.push(change);
                return Ok(());
            }
            Err(error) => error,
        };
        // A write that fails may have done half its work.
        if let (Pending::Write(offset, bytes), Ok(inode)) = (change, self.disk().inode(name)) {
            let half = Pending::Write(offset, bytes[..bytes.len() / 2].to_vec());
            half.apply(&mut inode.live);
            inode.pending.push(half);
        }
        Err(failed)
    }
}

fn settled(bytes: Vec<u8>) -> Inode {
    Inode { live: bytes.clone(), durable: bytes, pending: Vec::new() }
}

impl Inode {
    /// The durable bytes with any of the pending changes, in sectors of any size.
    fn tear(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match (change, dice.roll() % 4) {
                (_, 0) => {}
                (Pending::Write(offset, new), 1) => {
                    let kept = usize::try_from(dice.roll()).unwrap() % (new.len() + 1);
                    Pending::Write(*offset, new[..kept].to_vec()).apply(&mut bytes);
                }
                (Pending::Write(offset, new), 2) => {
                    let sector = [1, 16, 64, 512][usize::try_from(dice.roll() % 4).unwrap()];
                    for (number, piece) in new.chunks(sector).enumerate() {
                        if dice.one_in(2) {
                            Pending::Write(offset + number * sector, piece.to_vec()).apply(&mut bytes);
                        }
                    }
                }
                (change, _) => change.apply(&mut bytes),
            }
        }
        bytes
    }
}

impl Disk {
    fn inode(&mut self, name: &str) -> io::Result<&mut Inode> {
        let inode = *self.live_names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[inode])
    }
}

impl Medium for Sim {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.call()?.live_names.keys().cloned().collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.call()?;
        if disk.live_names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.inodes.push(Inode::default());
        let inode = disk.inodes.len() - 1;
        disk.live_names.insert(name.into(), inode);
        Ok(())
    }

    fn preallocate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).unwrap().max(self.disk().inode(name)?.live.len());
        self.change(name, Pending::Length(length))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(self.call()?.inode(name)?.live.len() as u64)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut disk = self.call()?;
        let offset = usize::try_from(offset).unwrap();
        let bytes = disk.inode(name)?.live.get(offset..offset + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(name, Pending::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.change(name, Pending::Length(usize::try_from(length).unwrap()))
    }

    fn sync_data(&mut self, name: &str) -> io::Result<()> {
        let synced = self.call().map(drop);
        let mut disk = self.disk();
        if synced.is_err() && disk.fault.is_some_and(|(.., for_ever)| for_ever) {
            // No power: what is on its way stays there, for the cut to tear.
            return synced;
        }
        let inode = disk.inode(name)?;
        // What a failed sync could not write is forgotten: live shows it, the disk will never have it.
        for change in std::mem::take(&mut inode.pending) {
            if synced.is_ok() {
                change.apply(&mut inode.durable);
            }
        }
        synced
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut disk = self.call()?;
        disk.durable_names = disk.live_names.clone();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.call()?.live_names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn random(&mut self) -> io::Result<[u8; 8]> {
        drop(self.call()?);
        Ok(*b"saltsalt")
    }
}
