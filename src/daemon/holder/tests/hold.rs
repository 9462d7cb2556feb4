//! Acks do not wait for what is to be shown, and go on while the replica is held still.

use std::fs;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::reveal::tests::snapshot::differences;

/// What happened so far, in short: `+1` acked, `=1` shown.
async fn told(happened: &mut mpsc::UnboundedReceiver<Event>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(match happened.recv().await.unwrap() {
            Event::Acked(acked, _) => format!("+{}", acked.position.generation),
            Event::Revealed(revealed, _) => format!("={}", revealed.position.generation),
            other => format!("{other:?}"),
        });
    }
    all
}

/// So many generations, each of which changes what the one before left.
fn generations(fed: &mut Fed, count: u32) -> Vec<Generation> {
    (0..count)
        .map(|number| {
            fs::write(fed.source(&format!("{number}")), format!("new {number}")).unwrap();
            if number > 0 {
                fs::rename(fed.source(&format!("{}", number - 1)), fed.source(&format!("was {number}"))).unwrap();
            }
            fed.primary.generation()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_acked_before_what_was_acked_is_shown_and_that_waits_for_few() {
    let mut fed = Fed::new().await;
    let mut happened = fed.link().await;
    let all: Vec<GenerationPiece> = generations(&mut fed, 12).iter().flat_map(pieces).collect();
    assert!(fed.holder.give(Job::Arrived(all)).await);
    let told = told(&mut happened, 24).await;
    let acked = |count: usize| told.iter().position(|event| *event == format!("+{count}")).unwrap();
    let shown = |count: usize| told.iter().position(|event| *event == format!("={count}")).unwrap();
    assert_eq!(acked(8), 7, "eight are acked before one is shown: {told:?}");
    assert!((9..=12).all(|count| shown(count - 8) < acked(count)), "then one is shown for each: {told:?}");
    assert!((2..=12).all(|count| shown(count - 1) < shown(count)), "in order: {told:?}");
    assert_eq!(differences(&fed.ground.look_at_source(), &fed.ground.look()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_replica_acks_generation_upon_generation_and_shows_them_when_it_is_let_go() {
    let mut fed = Fed::new().await;
    fs::write(fed.source("first"), "first").unwrap();
    assert!(fed.take().await);
    let mut happened = fed.link().await;
    let (keeper, kept) = oneshot::channel();
    let held = fed.holder.hold(Duration::from_secs(3600), kept).await.unwrap();
    assert_eq!(held.position.generation, 1);
    let before = fed.ground.look();
    for generation in generations(&mut fed, 30) {
        assert!(fed.holder.may_begin().await);
        fed.give(&generation).await;
    }
    let acked: Vec<String> = (2..=31).map(|number| format!("+{number}")).collect();
    assert_eq!(told(&mut happened, 30).await, acked);
    let stand = fed.stand().await;
    assert_eq!((stand.standing.position.generation, stand.unrevealed), (31, 30));
    assert_eq!(differences(&before, &fed.ground.look()), Vec::<String>::new());
    drop(keeper);
    let shown: Vec<String> = (2..=31).map(|number| format!("={number}")).collect();
    assert_eq!(told(&mut happened, 30).await, shown);
    assert_eq!(differences(&fed.ground.look_at_source(), &fed.ground.look()), Vec::<String>::new());
}
