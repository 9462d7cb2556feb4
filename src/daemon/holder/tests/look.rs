//! A look at the replica takes as long as it takes; nothing waits for it, and what is revealed meanwhile is no difference.

use std::fs;
use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::audit::Progress;
use crate::daemon::holder::Look;
use crate::reveal::Scope;
use crate::thought::wire::message::Audited;

/// Lets a look come to its n-th entry, and no further until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self, at: u64, progress: Progress) {
        let mut state = self.state.lock().unwrap();
        if progress.entries < at {
            return;
        }
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    fn wait_for_it(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(here, _)| !*here).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

fn everything(mend: bool) -> Look {
    Look { scope: Scope::everything(), content: true, mend }
}

/// Looks at all of the replica; `change` is made, and taken, when it is at the entry `at`.
async fn look_while(fed: &mut Fed, at: u64, mend: bool, change: impl AsyncFnOnce(&mut Fed)) -> Audited {
    let gate: Arc<Gate> = Arc::default();
    let (holder, passing) = (fed.holder.clone(), Arc::clone(&gate));
    let looking = tokio::spawn(async move {
        holder.inspect(everything(mend), Arc::new(move |progress| passing.pass(at, progress))).await
    });
    let waiting = Arc::clone(&gate);
    tokio::task::spawn_blocking(move || waiting.wait_for_it()).await.unwrap();
    change(fed).await;
    gate.open();
    looking.await.unwrap().unwrap()
}

fn furnish(fed: &Fed) {
    for directory in ["a", "m", "m/deep", "z"] {
        fs::create_dir(fed.source(directory)).unwrap();
        for name in ["one", "two"] {
            fs::write(fed.source(directory).join(name), format!("{name} in {directory}")).unwrap();
        }
    }
    fs::hard_link(fed.source("a/one"), fed.source("z/linked")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_go_on_while_the_replica_is_looked_at_and_what_they_change_is_no_difference() {
    for at in 1..=14 {
        let mut fed = Fed::new().await;
        furnish(&fed);
        assert!(fed.take().await);
        let audited = look_while(&mut fed, at, false, async |fed: &mut Fed| {
            for number in 0..5 {
                // What was passed, what is to come, directories that move behind what is read and back.
                fs::write(fed.source("a/two"), format!("again {number}")).unwrap();
                fs::write(fed.source("z/two"), format!("again {number}")).unwrap();
                fs::write(fed.source(&format!("m/new {number}")), "new").unwrap();
                let (from, to) = if number % 2 == 0 { ("m/deep", "0") } else { ("0", "m/deep") };
                fs::rename(fed.source(from), fed.source(to)).unwrap();
                assert!(fed.take().await, "generation {number} waits for the look at entry {at}");
            }
            fs::remove_dir_all(fed.source("a")).unwrap();
            assert!(fed.take().await);
        })
        .await;
        assert_eq!((audited.failed, audited.differences), (None, Vec::new()), "at entry {at}");
        let stand = fed.stand().await;
        assert_eq!((audited.position, audited.tree), (stand.standing.position, stand.standing.tree));
        assert_eq!(stand.unrevealed, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_by_hand_is_found_whatever_is_revealed_meanwhile() {
    for at in 1..=14 {
        let mut fed = Fed::new().await;
        furnish(&fed);
        assert!(fed.take().await);
        // Rot in a directory that is moved from what is to come to what was passed.
        fs::write(fed.replica("z/two"), "two of z").unwrap();
        let audited = look_while(&mut fed, at, false, async |fed: &mut Fed| {
            fs::rename(fed.source("z"), fed.source("0")).unwrap();
            assert!(fed.take().await);
        })
        .await;
        let found: Vec<_> = audited.differences.iter().map(|found| found.path.to_string()).collect();
        assert!(found.contains(&"0/two".to_owned()) && found.iter().all(|path| path == "0/two"), "{at}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_taken_in_to_be_mended() {
    let mut fed = Fed::new().await;
    furnish(&fed);
    assert!(fed.take().await);
    fs::write(fed.replica("z/two"), "two of z").unwrap();
    let audited = look_while(&mut fed, 3, true, async |fed: &mut Fed| {
        fs::write(fed.source("a/two"), "again").unwrap();
        assert!(fed.take().await);
    })
    .await;
    assert_eq!((audited.failed, audited.strayed), (None, 1));
    assert_eq!(fed.stand().await.strayed, 1);
}
