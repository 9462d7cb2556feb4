//! A primary on a disk whose power is cut at every call: its home, its state directory, or what starts from them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::io::Errno;

use tokio::runtime::{Builder, Runtime};

use super::{context, head, lone_primary};
use crate::daemon::memory::load_trust;
use crate::daemon::node::{Node, NodeOptions};
use crate::fs::tests::simulated::{Bed, Calls, Disk, Fault, Leaves, bed, blows, each, is_whole};
use crate::net::identity::{Identity, NodeId};
use crate::thought::dice::Dice;
use crate::thought::wire::message::Hello;
use crate::words::position::{ChainDigest, HomeId, NodeName, Position};

/// What the world knows of a primary at some moment, and will not forget when its power is cut.
#[derive(Clone, Default, Debug)]
struct Known {
    /// Where it ever stood.
    heads: Vec<(Position, ChainDigest)>,
    id: Option<NodeId>,
    home: Option<HomeId>,
    /// A peer that it was told to trust.
    trusts: bool,
}

/// What was known at each moment, the disk notes which.
struct Notes<'a> {
    bed: &'a Bed,
    all: Vec<Known>,
}

impl Notes<'_> {
    fn note(&mut self, change: impl FnOnce(&mut Known)) {
        let mut known = self.all.last().cloned().unwrap_or_default();
        change(&mut known);
        self.all.push(known);
        self.bed.ack(self.all.len() as u64 - 1);
    }

    fn note_head(&mut self, node: &Node) {
        let head = head(node);
        self.note(|known| known.heads.push(head));
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn options(bed: &Bed) -> NodeOptions {
    lone_primary(&bed.at("home"), &bed.at("state"))
}

async fn start(bed: &Bed) -> Result<Node, String> {
    Node::start(options(bed)).await.map_err(|error| format!("starting: {}", crate::daemon::explain(&error)))
}

fn home_of(node: &Node) -> Option<HomeId> {
    node.inner.memory.lock().unwrap().home
}

/// The id of a peer.
fn stranger() -> String {
    static ID: LazyLock<String> = LazyLock::new(|| {
        let state = tempfile::tempdir().unwrap();
        Identity::load_or_create(state.path()).unwrap().id().to_string()
    });
    ID.clone()
}

fn peer() -> NodeName {
    NodeName::try_from("standby".to_owned()).unwrap()
}

/// What Jenkins does at step `number`: files made, one saved by rename, one written in place.
fn work(home: &Path, number: u8) {
    try_work(home, number).unwrap();
}

fn try_work(home: &Path, number: u8) -> io::Result<()> {
    let directory = home.join(format!("job-{}", number % 3));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(".config"), vec![number; 5000])?;
    fs::rename(directory.join(".config"), directory.join("config"))?;
    let counter = fs::OpenOptions::new().write(true).create(true).truncate(false).open(home.join("counter"))?;
    counter.write_all_at(&[b'0' + number; 300], u64::from(number % 2) * 4096)
}

/// Two lives of a primary, each ended in order; in the first it begins a reign because of a standby that had more.
async fn live(notes: &mut Notes<'_>) {
    let bed = notes.bed;
    let home = bed.at("home");
    for lives in 0..2 {
        work(&home, lives);
        let node = start(bed).await.unwrap();
        let (id, of) = (node.id(), home_of(&node));
        notes.note(|known| (known.id, known.home) = (Some(id), of));
        notes.note_head(&node);
        for number in 1..4 {
            work(&home, number);
            node.mark().await.unwrap();
            notes.note_head(&node);
            if number == 2 {
                // Commits the index, as happens every minute.
                node.inner.view().await.unwrap();
            }
        }
        if lives == 0 {
            let context = context(&node);
            let at = head(&node).0;
            let position = Position { generation: at.generation + 9, ..at };
            // It stands where this primary did not lead, as far as that knows.
            context.begin_reign(&Hello { position, ..context.hello.clone() }).await.unwrap();
            assert_eq!(head(&node).0.epoch, at.epoch + 1);
            notes.note_head(&node);
            node.inner.trust(&stranger(), peer(), false).unwrap();
            notes.note(|known| known.trusts = true);
            work(&home, 5);
            node.mark().await.unwrap();
            notes.note_head(&node);
        }
        node.end().await.unwrap();
    }
}

/// Starts what a power cut left of a primary of which `known` is known: it is the same node, its index is what the home is, and no position that
/// it ever gave, in whatever history, comes again.
async fn check(bed: &Bed, known: &Known) -> Result<(), String> {
    let newest = known.heads.iter().map(|(position, _)| *position).max();
    let (mut before, mut reign) = (newest, None);
    for again in 0..2 {
        let node = start(bed).await?;
        if known.id.is_some_and(|id| id != node.id()) || (known.home.is_some() && known.home != home_of(&node)) {
            return Err("it is another node, or its home another".into());
        }
        if known.trusts && !load_trust(&bed.at("state")).unwrap().iter().any(|known| known.id == stranger()) {
            return Err("it has forgotten whom it trusts".into());
        }
        let begins = head(&node).0;
        let report = node.inner.verify(Vec::new()).await.map_err(|refusal| format!("{refusal:?}"))?;
        if let Some(own) = report.peers.iter().find(|peer| peer.name == "primary") {
            return Err(format!("its index is not what the home is: {:?}", own.differences));
        }
        work(&bed.at("home"), 7 + again);
        let after = node.mark().await.ok_or("no cut")?;
        if before.is_some_and(|before| begins <= before) || after <= begins {
            return Err(format!("it gave {newest:?}, and goes on from {begins} to {after}"));
        }
        before = Some(after);
        let epoch = begins.epoch;
        node.end().await.map_err(|error| format!("ending: {}", crate::daemon::explain(&error)))?;
        if reign.replace(epoch).is_some_and(|reign| reign != epoch) {
            return Err(format!("ended in order, it began another reign: {begins}"));
        }
    }
    Ok(())
}

/// G1, G4, G5 of the primary itself.
#[test]
fn a_power_cut_at_any_call_of_a_primary_gives_no_position_twice_and_leaves_an_index_that_is_the_home() {
    let Some(bed) = bed(Disk::new(&["home", "state"]).remember()) else { return };
    bed.state().cuts = Some(Vec::new());
    let mut notes = Notes { bed: &bed, all: vec![Known::default()] };
    runtime().block_on(live(&mut notes));
    let all = notes.all;
    let cuts = bed.state().cuts.take().unwrap();
    drop(bed);
    let mut dice = Dice::new(6);
    let mut blows = blows(&cuts, &mut dice);
    blows.retain(|_| is_whole() || dice.one_in(2));
    println!("{} power cuts at {} calls", blows.len(), cuts.len());
    each(&blows, |blow| {
        let bed = Bed::mount(blow.disk()).unwrap();
        let known = &all[usize::try_from(blow.cut.acked).unwrap()];
        runtime().block_on(check(&bed, known)).map_err(|why| format!("{}: {why}", blow.told()))
    });
}

/// G4: bytes of which only the times reached the disk, while the index has both.
#[test]
fn what_the_index_has_and_a_power_cut_took_back_is_read_again() {
    let Some(bed) = bed(Disk::new(&["home", "state"]).remember()) else { return };
    runtime().block_on(async {
        work(&bed.at("home"), 2);
        let node = start(&bed).await.unwrap();
        work(&bed.at("home"), 4);
        node.mark().await.unwrap();
        node.end().await.unwrap();
    });
    let left = bed.state().disk.after_power_cut(Leaves::Names);
    // The next gets its device number: to the index it is the same disk.
    drop(bed);
    let bed = Bed::mount(left).unwrap();
    runtime().block_on(check(&bed, &Known::default())).unwrap();
}

/// Lives while calls fail: what cannot be done is not done, and a primary that ends for it is started again.
async fn live_amid(notes: &mut Notes<'_>) {
    let bed = notes.bed;
    for number in 0..4 {
        try_work(&bed.at("home"), number).ok();
        let Ok(node) = start(bed).await else { continue };
        let (id, of) = (node.id(), home_of(&node));
        notes.note(|known| (known.id, known.home) = (Some(id), of));
        notes.note_head(&node);
        try_work(&bed.at("home"), number + 1).ok();
        // One that has no room makes no cut.
        tokio::time::timeout(Duration::from_secs(1), node.mark()).await.ok();
        notes.note_head(&node);
        node.end().await.ok();
    }
}

/// One fault at the calls to the disk of a primary, and a power cut when all is well again. True if it was met.
fn suffer(fault: Fault) -> Result<bool, String> {
    let bed = Bed::mount(Disk::new(&["home", "state"]).remember()).unwrap();
    bed.state().fault = Some(fault);
    let mut notes = Notes { bed: &bed, all: vec![Known::default()] };
    runtime().block_on(live_amid(&mut notes));
    let known = notes.all.pop().unwrap();
    let is_met = bed.state().failed > 0;
    bed.state().fault = None;
    let left = bed.state().disk.after_power_cut(Leaves::Nothing);
    runtime().block_on(check(&bed, &known))?;
    drop(bed);
    let bed = Bed::mount(left).unwrap();
    runtime().block_on(check(&bed, &known)).map_err(|why| format!("after a power cut: {why}"))?;
    Ok(is_met)
}

/// How many such calls there are in a life amid faults that has none.
fn counted(calls: Calls) -> Option<usize> {
    let bed = bed(Disk::new(&["home", "state"]).remember())?;
    bed.state().fault = Some(Fault { calls, from: usize::MAX, count: 0, error: Errno::IO });
    runtime().block_on(live_amid(&mut Notes { bed: &bed, all: vec![Known::default()] }));
    let count = bed.state().counted;
    Some(count)
}

/// G4, G5: an error of the disk, or no room on it, once or for as long as some calls take; and once at each sync.
#[test]
fn errors_of_the_disk_of_a_primary_give_no_position_twice_and_are_survived() {
    let (Some(count), Some(syncs)) = (counted(Calls::Changes), counted(Calls::Syncs)) else { return };
    let mut dice = Dice::new(8);
    let some = (0..count - count / 20).filter(|_| is_whole() || dice.index(count) < 30);
    let at = |from| (from, [1, 30][from % 2], [Errno::IO, Errno::NOSPC][from / 2 % 2]);
    let faults: Vec<Fault> = some
        .map(at)
        .map(|(from, count, error)| Fault { calls: Calls::Changes, from, count, error })
        .chain((0..syncs - 2).map(|from| Fault { calls: Calls::Syncs, from, count: 1, error: Errno::IO }))
        .collect();
    println!("{} faults at {count} calls, {syncs} of them syncs", faults.len());
    assert!(syncs > 20 && faults.len() > syncs + 10, "{} of {count}", faults.len());
    each(&faults, |fault| match suffer(*fault) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{fault:?}: it was never met")),
        Err(why) => Err(format!("{fault:?}: {why}")),
    });
}
