use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::net::endpoint::{DATA_STREAMS, Limits, STREAM_WINDOW_BYTES};
use crate::net::tests::{Node, PATIENCE, friends, linked};
use crate::thought::dice::Dice;

/// `len` bytes that look like no others, from `seed`.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    Dice::new(seed.into()).noise(len)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("within the test's patience")
}

#[tokio::test]
async fn frames_cross_both_ways_whoever_speaks_first() {
    let (_nodes, mut here, mut there) = linked().await;
    there.send(7, b"from the acceptor").await.unwrap();
    assert_eq!(soon(here.recv()).await.unwrap(), Some((7, b"from the acceptor".to_vec())));
    here.send(OPENING_KIND, b"").await.unwrap();
    here.send(0, &noise(1, 1024 * 1024)).await.unwrap();
    assert_eq!(
        soon(there.recv()).await.unwrap(),
        Some((OPENING_KIND, vec![])),
        "only the very first frame is the link's"
    );
    assert_eq!(soon(there.recv()).await.unwrap(), Some((0, noise(1, 1024 * 1024))));
}

#[tokio::test]
async fn a_finished_side_ends_and_the_other_side_still_speaks() {
    let (_nodes, here, mut there) = linked().await;
    let (mut sender, mut receiver, _streams) = here.split();
    sender.send(1, b"last").await.unwrap();
    sender.finish().await.unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), Some((1, b"last".to_vec())));
    assert_eq!(soon(there.recv()).await.unwrap(), None);
    there.send(2, b"heard").await.unwrap();
    assert_eq!(soon(receiver.recv()).await.unwrap(), Some((2, b"heard".to_vec())));
}

#[tokio::test]
async fn a_refused_dialer_learns_it_from_its_first_recv() {
    let (dialer, acceptor) = (Node::new(Limits::default()), Node::new(Limits::default()));
    dialer.trust(&acceptor, "acceptor");
    let (here, there) = dialer.meet(&acceptor).await;
    there.unwrap().unwrap_err();
    let refused = async { Link::open(here.unwrap()).await?.recv().await };
    let error = soon(refused).await.unwrap_err();
    let expected = format!("run `hotspare trust {} --name NAME` there", dialer.identity.id());
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn sixty_four_mib_over_sixteen_streams_arrive_intact_while_control_flows() {
    const STREAMS: u8 = 16;
    const EACH: usize = 4 * 1024 * 1024;
    let (_nodes, here, there) = linked().await;
    let (mut send_here, mut recv_here, data_here) = here.split();
    let (mut send_there, mut recv_there, data_there) = there.split();
    let mut tasks = JoinSet::new();
    for index in 0..STREAMS {
        let streams = data_here.clone();
        tasks.spawn(async move {
            let mut stream = streams.open_data(Priority::BULK).await.unwrap();
            stream.write_frame(index, b"head").await.unwrap();
            stream.write_all(&noise(index, EACH)).await.unwrap();
            stream.finish().unwrap();
        });
        let streams = data_there.clone();
        tasks.spawn(async move {
            let mut stream = streams.accept_data().await.unwrap();
            let (index, head) = stream.read_frame().await.unwrap().unwrap();
            assert_eq!(head, b"head");
            let (mut hasher, mut buffer, mut total) = (blake3::Hasher::new(), vec![0; 64 * 1024], 0);
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                total += count;
            }
            assert_eq!((total, hasher.finalize()), (EACH, blake3::hash(&noise(index, EACH))), "stream {index}");
        });
    }
    let mut round_trips = 0;
    let transfer = async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    };
    tokio::pin!(transfer);
    soon(async {
        loop {
            let ping = async {
                send_here.send(1, b"ping").await.unwrap();
                assert_eq!(recv_there.recv().await.unwrap(), Some((1, b"ping".to_vec())));
                send_there.send(2, b"pong").await.unwrap();
                assert_eq!(recv_here.recv().await.unwrap(), Some((2, b"pong".to_vec())));
            };
            tokio::select! {
                () = &mut transfer => break,
                () = ping => round_trips += 1,
            }
        }
    })
    .await;
    // Behind 64 MiB of data there would be one at most; how many there are is a matter of this machine (7 on one thread, debug build).
    assert!(round_trips > 1, "{round_trips} round trips during the transfer");
}

#[tokio::test]
async fn data_that_nobody_reads_does_not_keep_control_out() {
    let (_nodes, mut here, mut there) = linked().await;
    let block = noise(3, STREAM_WINDOW_BYTES as usize);
    let mut streams = Vec::new();
    for _ in 0..DATA_STREAMS {
        let mut stream = here.open_data(Priority::BULK).await.unwrap();
        // As much as fits; what the windows refuse is the point.
        timeout(Duration::from_secs(2), stream.write_all(&block)).await.ok();
        streams.push(stream);
    }
    let frame = noise(4, 1024 * 1024);
    let (sent, received) = soon(async { tokio::join!(here.send(1, &frame), there.recv()) }).await;
    sent.unwrap();
    assert_eq!(received.unwrap(), Some((1, frame)));
}

#[tokio::test]
async fn a_frame_above_the_cap_is_an_error_on_both_sides() {
    let (_nodes, mut here, mut there) = linked().await;
    let cap_bytes = Limits::default().frame_cap_bytes;
    let too_long = |error: &NetError| matches!(error, NetError::Frame { source: FrameError::TooLong { .. }, .. });
    let error = here.send(1, &vec![0; cap_bytes + 1]).await.unwrap_err();
    assert!(too_long(&error), "{error:?}");
    here.send(1, b"the stream is as it was").await.unwrap();
    assert!(soon(there.recv()).await.unwrap().is_some());
    // A peer that does not keep to it: a header that declares 4 GiB.
    let mut header = Vec::new();
    Frame { kind: 1, payload: &[] }.encode(cap_bytes, &mut header).unwrap();
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    here.sender.stream.write_all(&header).await.unwrap();
    for _ in 0..2 {
        let error = soon(there.recv()).await.unwrap_err();
        assert!(too_long(&error), "{error:?}");
    }
}

#[tokio::test]
async fn a_recv_that_was_cancelled_inside_a_frame_loses_nothing() {
    let (_nodes, mut here, mut there) = linked().await;
    let mut bytes = Vec::new();
    Frame { kind: 5, payload: b"in many pieces" }.encode(100, &mut bytes).unwrap();
    for byte in &bytes[..bytes.len() - 1] {
        here.sender.stream.write_all(&[*byte]).await.unwrap();
        timeout(Duration::from_millis(5), there.recv()).await.expect_err("no frame yet");
    }
    here.sender.stream.write_all(&bytes[bytes.len() - 1..]).await.unwrap();
    assert_eq!(soon(there.recv()).await.unwrap(), Some((5, b"in many pieces".to_vec())));
}

#[tokio::test]
async fn a_send_that_was_cancelled_inside_a_frame_tears_nothing() {
    let (_nodes, mut here, mut there) = linked().await;
    let big = |seed| noise(seed, 1024 * 1024);
    // Nobody reads: the third or so hangs half way.
    let mut begun = 0;
    while timeout(Duration::from_millis(300), here.send(begun, &big(begun))).await.is_ok() {
        begun += 1;
    }
    let send_last = async { here.send(99, b"last").await.unwrap() };
    let receive = async {
        for kind in 0..=begun {
            assert_eq!(there.recv().await.unwrap(), Some((kind, big(kind))));
        }
        assert_eq!(there.recv().await.unwrap(), Some((99, b"last".to_vec())));
    };
    soon(async { tokio::join!(send_last, receive) }).await;
}

#[tokio::test]
async fn a_stream_dropped_unfinished_does_not_look_finished() {
    let (_nodes, here, there) = linked().await;
    let mut stream = here.open_data(Priority::GENERATION).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    let mut received = soon(there.accept_data()).await.unwrap();
    let mut four = [0; 4];
    soon(received.read_exact(&mut four)).await.unwrap();
    drop(stream);
    let error = soon(received.read(&mut four)).await.unwrap_err();
    assert!(matches!(error, NetError::Reset { code: 0, .. }), "{error:?}");
}

#[tokio::test]
async fn reset_stop_and_an_early_end_are_told_apart() {
    let (_nodes, here, there) = linked().await;
    let open = || async {
        let mut sender = here.open_data(Priority::BULK).await.unwrap();
        sender.write_all(b"1234").await.unwrap();
        (sender, soon(there.accept_data()).await.unwrap())
    };
    let mut eight = [0; 8];
    let (sender, mut receiver) = open().await;
    sender.finish().unwrap();
    assert!(matches!(soon(receiver.read_exact(&mut eight)).await, Err(NetError::EndedEarly { .. })));
    let (sender, mut receiver) = open().await;
    sender.reset(42);
    assert!(matches!(soon(receiver.read_exact(&mut eight)).await, Err(NetError::Reset { code: 42, .. })));
    let (mut sender, receiver) = open().await;
    receiver.stop(43);
    let refused = async {
        loop {
            if let Err(error) = sender.write_all(&[0; 1000]).await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(matches!(soon(refused).await, NetError::Stopped { code: 43, .. }));
}

#[tokio::test]
async fn frames_and_raw_bytes_follow_each_other_on_one_stream() {
    let (_nodes, here, there) = linked().await;
    let mut sender = here.open_data(Priority::GENERATION).await.unwrap();
    sender.write_frame(1, b"one").await.unwrap();
    sender.write_all(b"raw bytes").await.unwrap();
    sender.write_frame(2, b"two").await.unwrap();
    sender.finish().unwrap();
    let mut receiver = soon(there.accept_data()).await.unwrap();
    assert_eq!(soon(receiver.read_frame()).await.unwrap(), Some((1, b"one".to_vec())));
    let mut raw = [0; 9];
    soon(receiver.read_exact(&mut raw)).await.unwrap();
    assert_eq!(&raw, b"raw bytes");
    assert_eq!(soon(receiver.read_frame()).await.unwrap(), Some((2, b"two".to_vec())));
    assert_eq!(soon(receiver.read_frame()).await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_torn() {
    let (_nodes, here, there) = linked().await;
    let mut sender = here.open_data(Priority::GENERATION).await.unwrap();
    sender.write_all(b"hs").await.unwrap();
    sender.finish().unwrap();
    let mut receiver = soon(there.accept_data()).await.unwrap();
    for _ in 0..2 {
        let error = soon(receiver.read_frame()).await.unwrap_err();
        let torn = FrameError::Torn { missing_bytes: 10 };
        assert!(matches!(&error, NetError::Frame { source, .. } if *source == torn), "{error:?}");
    }
    let error = soon(receiver.read(&mut [0])).await.unwrap_err();
    assert!(matches!(error, NetError::Frame { .. }), "raw bytes do not begin inside a frame");
}

#[tokio::test]
async fn a_peer_that_opens_no_control_stream_is_not_waited_for_long() {
    let (dialer, acceptor) = friends(&Limits { handshake_timeout: Duration::from_millis(500), ..Limits::default() });
    let (here, there) = dialer.meet(&acceptor).await;
    let _silent = here.unwrap();
    let error = soon(Link::accept(there.unwrap().unwrap())).await.unwrap_err();
    assert!(matches!(error, NetError::NoControl { .. }), "{error:?}");
}
