//! A disk in memory, mounted by FUSE, under the code as it is: each call that changes it is a place where the power can go, or where it can fail.
//!
//! | file | what |
//! |---|---|
//! | `image` | inodes and bytes, shared until they are changed |
//! | `disk`, `cut` | a disk: what is seen of it, and what a power cut may leave of that |
//! | `face` | the kernel's side: requests answered |
//! | `bed` | a disk that is mounted: calls counted, recorded, made to fail |
//! | `story` | what a replica goes through on it, and what it must be afterwards |
//! | `power` | the power cut at every call (G1, G2) |
//! | `index` | the index by itself under the same cuts |
//! | `faults` | calls that fail: once, for a while, until it is mended |
//!
//! # What a power cut may leave
//! **Bytes** are on the medium after an fsync or fdatasync of their file. Of what was written since, each page may be there in any version that it
//! had, or half of one and half of another, torn between sectors; the length may be any that the file had. Pages know nothing of each other, nor of
//! names: those of a rename may be lost and bytes written after it be there.
//!
//! **Names and attributes** are there up to some change, in the order in which they were changed: those that an fsync of a directory promised, and
//! any number of those that came after. That order is what `reveal` assumes of a file system; a journal (ext4, XFS) or whole transactions give it. A
//! rename is one change, also between two directories.
//!
//! **Less is promised than ext4 and XFS do**, so that nothing leans on it: an fsync of a file makes its bytes and attributes durable, and neither
//! its name nor any change before it. An fsync of a directory promises what happened in it, not what happened to it. Lengths come apart from bytes.
//! Numbers of inodes are used again at once, the lowest first.
//!
//! The kernel passes no syncfs(2) on to a FUSE server, and the replica knows. As nearly all homes are on file systems that have it, such a disk is
//! simulated as well: where the replica asks for it, tests see it through a call of their own (`fs::tests::simulated`), in one line that is not
//! what is shipped.
//!
//! As root, and with `/dev/fuse`; else the tests say that they are skipped. `HOTSPARE_TEST_SIMULATED=all` tries every call with every extreme and
//! several seeds; else some hundreds, spread by a seed.

mod bed;
mod cut;
mod disk;
mod face;
mod faults;
mod image;
mod index;
mod power;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bed::Bed;
use disk::Disk;

use super::path;
use crate::fs::Root;

/// True in the long form.
fn is_whole() -> bool {
    std::env::var_os("HOTSPARE_TEST_SIMULATED").is_some_and(|which| which == "all")
}

/// A disk, mounted; `None` on a machine that mounts none, which is said.
fn bed(disk: Disk) -> Option<Bed> {
    let mounted = Bed::mount(disk);
    mounted
        .map_err(|why| println!("skipped: this test mounts a FUSE file system, which this machine lets it not: {why}"))
        .ok()
}

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

/// Does all `jobs`, as many at a time as there are processors, and shows those that fail.
fn each<T: Sync>(jobs: &[T], test: impl Fn(&T) -> Result<(), String> + Sync) {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match catch_unwind(AssertUnwindSafe(|| test(job))) {
                        Ok(Ok(())) => {}
                        Ok(Err(why)) => failures.lock().unwrap().push(why),
                        Err(_) => failures.lock().unwrap().push("it panicked: see above".into()),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown = failures.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {} failed, such as\n{shown}", failures.len(), jobs.len());
}
