//! The two sides of the protocol against each other, under a virtual clock, with everything that befalls links and nodes.
//!
//! **Real here:** [`judge`](super::judge), [`Sender`](super::sender::Sender), [`Follower`](super::follower::Follower),
//! [`Arrival`](super::arrival::Arrival), [`Receiver`](super::receiver::Receiver), `Pulse`, [`Patience`](super::patience::Patience), every frame
//! and message as bytes, headers and their chain digests, the primary's `Window` (kept so small that standbys fall out of it), `Peers` (which
//! process is let in, who went backwards) and `Memory` (reigns).
//!
//! **Modelled:** the home (numbers under names; an operation adds, so that one applied twice is seen), the disk of a standby (what is synced
//! survives a crash, what is only written may or may not), the tasks around the machines. The replica's own checks of tree digests are left
//! out on purpose: the machines must do without.
//!
//! **The network** is QUIC's: a stream loses, doubles and reorders nothing within itself, streams are in no order between each other, packets
//! that are lost make what is behind them late. So what is lost is the tail of everything when a link ends; it ends for each side at a time of
//! its own, or for one side only: half-open links, in either direction or both, which only silence tells of. A third of the runs have a
//! *faulty* primary beside that, which sends generations twice and out of order.
//!
//! **Befalls nodes:** crashes with what is unsynced kept or lost, disks replaced, restarts of a primary in order, in disorder and without its
//! index (a new reign), a second primary promoted while the first goes on, and word of that to the standbys of the first.
//!
//! After every event the invariants are checked; in the end there is peace, and convergence is demanded. Replay one: `HOTSPARE_SIM_SEED=17
//! cargo test --lib session::tests::sim` prints what happened; more of them: `HOTSPARE_SIM_RUNS=1000000`.

mod content;
mod invariants;
mod network;
mod primary;
mod standby;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use world::{Stats, World};

use super::{header as any_header, hello as any_hello, some_instant};
use crate::daemon::memory::Memory;
use crate::thought::dice::Dice;
use crate::thought::generation::{Header, Joint};
use crate::thought::wire::message::{Hello, Role};
use crate::words::position::{ChainDigest, ClusterId, HomeId, InstanceNonce, NodeName, Position, ReignId};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const HOME: HomeId = HomeId([2; 16]);

/// How many runs there are if nobody says.
const RUNS: u64 = 10_000;
/// How long there is peace in the end: longer than silence is borne, and than the longest pause between dials.
const PEACE: Duration = Duration::from_secs(60);

/// So many bytes.
fn bytes<const N: usize>(dice: &mut Dice) -> [u8; N] {
    std::array::from_fn(|_| dice.roll().to_le_bytes()[0])
}

fn hello(name: &NodeName, instance: [u8; 16], role: Role) -> Hello {
    Hello { node: name.clone(), instance: InstanceNonce(instance), ..any_hello("x", role, 0) }
}

fn generation(reign: ReignId, position: Position, parent: (Position, ChainDigest), joint: Joint) -> Header {
    Header { reign, position, parent: parent.0, ..any_header(position.epoch, 1, parent.1, joint) }
}

/// One run; what went wrong in it.
fn run(seed: u64, start: Instant, blank: &Memory, trace: Option<&Mutex<Vec<String>>>) -> Result<Stats, String> {
    let mut world = World::new(seed, start, blank, trace.is_some());
    let live = |world: &mut World, end: Duration| -> Result<(), String> {
        while world.step(end) {
            if let (Some(kept), Some(told)) = (trace, &mut world.trace) {
                kept.lock().unwrap().append(told);
            }
            world.check()?;
        }
        Ok(())
    };
    let trouble = Duration::from_millis(1000 + world.dice.index(9000) as u64);
    live(&mut world, trouble)?;
    world.calm();
    // It is demanded in the end; that it came about earlier only spares the rest.
    while world.now < trouble + PEACE && world.demand_convergence().is_err() {
        let next = world.now + Duration::from_millis(500);
        live(&mut world, next)?;
    }
    world.demand_convergence()?;
    Ok(world.stats)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_befalls_links_and_nodes_the_guarantees_hold_and_all_converge() {
    let state = tempfile::tempdir().unwrap();
    let (start, blank) = (some_instant(), Memory::load(state.path()).unwrap());
    if let Some(seed) = number("HOTSPARE_SIM_SEED") {
        let trace = Mutex::new(Vec::new());
        let ended = catch_unwind(AssertUnwindSafe(|| run(seed, start, &blank, Some(&trace))));
        trace.into_inner().unwrap().iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: {ended:?}");
        ended.unwrap().unwrap();
        return;
    }
    let runs = number("HOTSPARE_SIM_RUNS").unwrap_or(RUNS);
    let (next, failed, total) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Stats::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs || failed.lock().unwrap().len() >= 5 {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed, start, &blank, None))) {
                        Ok(Ok(stats)) => total.lock().unwrap().add(&stats),
                        Ok(Err(why)) => failed.lock().unwrap().push((seed, why)),
                        Err(_) => failed.lock().unwrap().push((seed, "a panic".to_owned())),
                    }
                }
            });
        }
    });
    println!("{runs} runs: {:?}", total.into_inner().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "replay with HOTSPARE_SIM_SEED: {failed:#?}");
}
