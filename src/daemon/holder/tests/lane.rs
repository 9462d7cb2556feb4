//! Contents that come ahead, through their lane.

use std::fs;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::daemon::holder::Lane;
use crate::thought::delta::pack::Packer;
use crate::thought::dice::Dice;
use crate::thought::generation::Payload;
use crate::thought::session::arrival::{ContentsPiece, Piece};
use crate::thought::wire::message::HeldContent;
use crate::words::entry::Timestamp;

/// A lane of a link, and what happens on that.
struct Laned {
    batches: mpsc::Sender<Vec<Piece>>,
    end: watch::Sender<bool>,
    happened: mpsc::Receiver<Event>,
    ended: JoinHandle<()>,
}

impl Laned {
    async fn new(fed: &Fed) -> Self {
        let standing = fed.stand().await.standing;
        let receiver = Receiver::new(&hello(), standing.position, standing.chain).unwrap();
        let (events, happened) = mpsc::channel(64);
        let (end, over) = watch::channel(false);
        let (batches, of_contents) = mpsc::channel(2);
        let lane = Lane::new(fed.holder.clone(), events.downgrade(), over);
        assert!(fed.holder.give(Job::Link(events, receiver)).await);
        Self { batches, end, happened, ended: tokio::task::spawn_blocking(move || lane.run(of_contents)) }
    }

    async fn send(&self, pieces: Vec<ContentsPiece>) {
        self.batches.send(pieces.into_iter().map(Piece::Contents).collect()).await.unwrap();
    }

    async fn told(&mut self) -> String {
        match self.happened.recv().await.unwrap() {
            Event::HeldAll(all) => format!("held all {}", all.count),
            Event::Rejected(rejected) => format!("rejected: {}", rejected.text),
            other => format!("{other:?}"),
        }
    }

    async fn end(self) {
        drop(self.batches);
        self.end.send_replace(true);
        self.ended.await.unwrap();
    }
}

/// A content as it is sent, and its bytes packed.
fn sent(bytes: &[u8]) -> (HeldContent, Vec<u8>) {
    let mut packed = Vec::new();
    let mut packer = Packer::new(&mut packed, Default::default());
    packer.write(bytes).unwrap();
    packer.finish().unwrap();
    let size = bytes.len() as u64;
    let payload = Payload { length: packed.len() as u64, unpacked: size };
    let digest = Digest::of(bytes);
    let mtime = Timestamp::default();
    (HeldContent { digest, size, sparse: false, mode: 0o644, mtime, payload, from: 0, base: None }, packed)
}

async fn has(fed: &Fed, content: Digest) -> bool {
    fed.holder.lack(vec![content]).await.unwrap().bits == [0]
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_are_known_to_the_holder_when_all_are_said_to_be_here() {
    let mut fed = Fed::new().await;
    fs::write(fed.source("first"), "first").unwrap();
    assert!(fed.take().await);
    let mut laned = Laned::new(&fed).await;
    let all: Vec<_> = [9 << 20, 5, 2 << 20].map(|length| sent(&Dice::new(length as u64).noise(length))).into();
    laned.send(vec![ContentsPiece::Begin]).await;
    for (content, packed) in &all {
        let mut pieces = vec![ContentsPiece::Hold(content.clone())];
        pieces.extend(packed.chunks(64 << 10).map(|chunk| ContentsPiece::Payload(chunk.to_vec())));
        laned.send(pieces).await;
    }
    laned.send(vec![ContentsPiece::End]).await;
    assert_eq!(laned.told().await, "held all 3");
    for (content, _) in &all {
        assert!(has(&fed, content.digest).await);
    }
    laned.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_the_next_stream_is_taken() {
    let fed = Fed::new().await;
    let mut laned = Laned::new(&fed).await;
    let (good, packed) = sent(b"good");
    let payload = || ContentsPiece::Payload(packed.clone());
    let hold = |content: &HeldContent| ContentsPiece::Hold(content.clone());
    let other = HeldContent { digest: Digest([9; 32]), ..good.clone() };
    let afar = HeldContent { from: 3, ..good.clone() };
    let bad = [
        (vec![payload()], "payload"),
        (vec![ContentsPiece::Held(true)], "end of a content"),
        (vec![hold(&good), hold(&good)], "beginning of a content"),
        (vec![hold(&good), ContentsPiece::End], "end of contents"),
        (vec![hold(&other), payload()], "digest"),
        (vec![hold(&good), payload(), payload()], "payload"),
        (vec![hold(&afar)], "goes on where no beginning of it ends"),
    ];
    for (pieces, expected) in bad {
        let ends = pieces.iter().any(|piece| matches!(piece, ContentsPiece::End));
        laned.send(std::iter::once(ContentsPiece::Begin).chain(pieces).collect()).await;
        if !ends {
            // What still comes of it does no harm.
            laned.send(vec![hold(&good), payload(), ContentsPiece::End]).await;
        }
        let told = laned.told().await;
        assert!(told.starts_with("rejected: ") && told.contains(expected), "{expected}: {told}");
        assert_eq!(laned.told().await, "held all 0", "{expected}");
    }
    laned.send(vec![ContentsPiece::Begin, hold(&good), payload(), ContentsPiece::End]).await;
    assert_eq!(laned.told().await, "held all 1");
    assert!(has(&fed, good.digest).await);
    laned.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stream_that_is_refused_what_was_whole_is_known_and_the_beginning_of_what_was_not() {
    let fed = Fed::new().await;
    let mut laned = Laned::new(&fed).await;
    let ((content, packed), (whole, small)) = (sent(&Dice::new(1).noise(3 << 20)), sent(b"small"));
    let pieces = vec![
        ContentsPiece::Begin,
        ContentsPiece::Hold(whole.clone()),
        ContentsPiece::Payload(small),
        ContentsPiece::Hold(content.clone()),
        ContentsPiece::Payload(packed[..2 << 20].to_vec()),
        ContentsPiece::Hold(whole.clone()),
    ];
    laned.send(pieces).await;
    assert!(laned.told().await.starts_with("rejected: "));
    assert!(has(&fed, whole.digest).await);
    let lack = fed.holder.lack(vec![content.digest]).await.unwrap();
    assert!(matches!(lack.begun[..], [begun] if begun.bytes >= 1 << 20), "{lack:?}");
    laned.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_cut_off_the_beginning_is_known_when_the_lane_has_ended() {
    let fed = Fed::new().await;
    let laned = Laned::new(&fed).await;
    let ((content, packed), (whole, small)) = (sent(&Dice::new(1).noise(3 << 20)), sent(b"small"));
    let pieces = vec![
        ContentsPiece::Begin,
        ContentsPiece::Hold(whole.clone()),
        ContentsPiece::Payload(small),
        ContentsPiece::Hold(content.clone()),
        ContentsPiece::Payload(packed[..2 << 20].to_vec()),
    ];
    laned.send(pieces).await;
    // The second batch is taken when the first is done with.
    laned.send(Vec::new()).await;
    laned.send(Vec::new()).await;
    laned.send(Vec::new()).await;
    laned.end().await;
    assert!(has(&fed, whole.digest).await);
    let lack = fed.holder.lack(vec![content.digest]).await.unwrap();
    assert!(matches!(lack.begun[..], [begun] if begun.bytes >= 1 << 20), "{lack:?}");
}
