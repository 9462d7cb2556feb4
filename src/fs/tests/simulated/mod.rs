//! A disk in memory, mounted by FUSE, under the code as it is: each call that changes it is a place where the power can go, or where it can fail.
//!
//! | file | what |
//! |---|---|
//! | `image` | inodes and bytes, shared until they are changed |
//! | `disk`, `cut` | a disk: what is seen of it, and what a power cut may leave of that |
//! | `face` | the kernel's side: requests answered |
//! | `bed` | a disk that is mounted: calls counted, recorded, made to fail |
//! | `blow` | power cuts at the calls that were recorded |
//! | `syncfs` | the one call that the kernel does not pass on |
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
//! simulated as well: where the replica asks for it, tests see it through a call of their own (`syncfs`), in one line that is not what is shipped.
//!
//! As root, and with `/dev/fuse`; else the tests say that they are skipped. `HOTSPARE_TEST_SIMULATED=all` tries every call with every extreme and
//! several seeds; else some hundreds, spread by a seed.

mod bed;
mod blow;
mod cut;
mod disk;
mod face;
mod image;
mod syncfs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use bed::{Bed, Calls, Cut, Fault};
pub(crate) use blow::{Blow, blows};
pub(crate) use cut::Leaves;
pub(crate) use disk::Disk;
pub(in crate::fs) use syncfs::{syncfs, takes_syncfs};

/// True in the long form.
pub(crate) fn is_whole() -> bool {
    std::env::var_os("HOTSPARE_TEST_SIMULATED").is_some_and(|which| which == "all")
}

/// A disk, mounted; `None` on a machine that mounts none, which is said.
pub(crate) fn bed(disk: Disk) -> Option<Bed> {
    let mounted = Bed::mount(disk);
    mounted
        .map_err(|why| println!("skipped: this test mounts a FUSE file system, which this machine lets it not: {why}"))
        .ok()
}

/// Does all `jobs`, as many at a time as there are processors, and shows those that fail.
pub(crate) fn each<T: Sync>(jobs: &[T], test: impl Fn(&T) -> Result<(), String> + Sync) {
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
