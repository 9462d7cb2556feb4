//! The replica on a simulated disk (`fs::tests::simulated`): its power cut and its errors at every call.
//!
//! | file | what |
//! |---|---|
//! | `story` | what a replica goes through on it, and what it must be afterwards |
//! | `power` | the power cut at every call (G1, G2) |
//! | `index` | the index by itself under the same cuts |
//! | `faults` | calls that fail: once, for a while, until it is mended |

mod faults;
mod index;
mod power;
mod story;

use super::path;
use crate::fs::Root;
use crate::fs::tests::simulated::{Disk, bed};

/// Why the replica syncs each thing by itself on FUSE.
#[test]
fn the_kernel_passes_no_syncfs_on_to_a_fuse_server() {
    let Some(bed) = bed(Disk::new(&["home"]).without_syncfs().remember()) else { return };
    std::fs::write(bed.at("home/file"), "not synced").unwrap();
    let root = Root::open(&bed.at("home")).unwrap();
    root.sync_filesystem().unwrap();
    assert_eq!(bed.state().syncs, [0, 0], "neither a file nor the whole was synced");
    assert!(!root.syncs_whole().unwrap());
    root.sync_file(&path("file")).unwrap();
    assert_eq!(bed.state().syncs, [1, 0]);
}
