//! What a state directory is bound to: this machine, and on a primary this very home.
//!
//! Key, reign and history in it say who the node is; a copy of them, on a volume that was cloned or a directory that was copied, would be
//! the same node a second time. So the first start puts down where it was, and a later one that is somewhere else has no role
//! ([`unassigned`](super::unassigned)) until a person says that it was moved.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::fs::state::read_capped;
use crate::fs::{FsError, Root};
use crate::thought::wire::message::Role;
use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// Where Linux keeps the id of a machine; containers often have none.
const MACHINE_ID: &str = "/etc/machine-id";

/// Where a state directory belongs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// A digest of the machine's id; `None` if it has none.
    machine: Option<String>,
    /// The inode of a primary's home; `None` on a standby, which may make its replica anew.
    home_inode: Option<u64>,
}

impl Bound {
    /// Here: this machine, and `home` for a primary.
    pub fn here(home: &Path, role: Role) -> Result<Self, FsError> {
        let id = read_capped(Path::new(MACHINE_ID), 4096).unwrap_or_default();
        let id = id.trim_ascii();
        // Not the id itself, which other programs hold secret.
        let machine = (!id.is_empty()).then(|| Digest::of(&[b"hotspare machine ", id].concat()).to_string());
        let home_inode = match role {
            Role::Primary => Root::open(home)?.stat(&RelPath::root())?.map(|stat| stat.inode.id.ino),
            Role::Standby => None,
        };
        Ok(Self { machine, home_inode })
    }

    /// What is another than at the last start; `None` if nothing is, or nothing is known.
    fn differs(&self, before: &Self) -> Option<&'static str> {
        let differs = |here: bool, what| here.then_some(what);
        let both = self.machine.is_some() && before.machine.is_some();
        differs(both && self.machine != before.machine, "machine").or_else(|| {
            let both = self.home_inode.is_some() && before.home_inode.is_some();
            differs(both && self.home_inode != before.home_inode, "home directory")
        })
    }
}

/// Binds `memory` to `here`, if it is bound to nothing yet or `moved`; else tells what is another than before.
pub fn bind(memory: &mut Memory, here: Bound, moved: bool) -> Result<(), &'static str> {
    match memory.bound.as_ref().and_then(|before| here.differs(before)) {
        Some(what) if !moved => Err(what),
        _ => {
            let before = memory.bound.take();
            let home_inode =
                here.home_inode.or(before.as_ref().and_then(|before| before.home_inode).filter(|_| !moved));
            let machine = here.machine.or(before.and_then(|before| before.machine).filter(|_| !moved));
            memory.bound = Some(Bound { machine, home_inode });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_is_elsewhere_is_told_so_until_somebody_says_that_it_was_moved() {
        let state = tempfile::tempdir().unwrap();
        let mut memory = Memory::load(state.path()).unwrap();
        let at = |machine: Option<&str>, home_inode| Bound { machine: machine.map(str::to_owned), home_inode };
        bind(&mut memory, at(Some("a"), Some(2)), false).unwrap();
        bind(&mut memory, at(Some("a"), Some(2)), false).unwrap();
        assert_eq!(bind(&mut memory, at(Some("b"), Some(2)), false), Err("machine"));
        assert_eq!(bind(&mut memory, at(Some("a"), Some(3)), false), Err("home directory"));
        bind(&mut memory, at(None, None), false).unwrap();
        assert_eq!(bind(&mut memory, at(Some("b"), Some(2)), false), Err("machine"), "what is not known is kept");
        bind(&mut memory, at(Some("b"), Some(3)), true).unwrap();
        bind(&mut memory, at(Some("b"), Some(3)), false).unwrap();
        assert_eq!(bind(&mut memory, at(Some("a"), Some(2)), false), Err("machine"));
    }
}
