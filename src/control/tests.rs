use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::*;
use crate::observe::PathText;
use crate::observe::status::UnheldCounts;

/// A daemon that answers every question by one function, in a directory of its own.
struct Fake {
    dir: tempfile::TempDir,
    tasks: JoinSet<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Fake {
    async fn start(answer: impl Fn(Request) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::bind(&dir.path().join("control.sock")).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.serve(sender, async { drop(stopped.await) }).await.unwrap() });
        tasks.spawn(async move {
            while let Some(request) = receiver.recv().await {
                answer(request);
            }
        });
        Self { dir, tasks, stop: Some(stop) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    async fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.dir
    }
}

fn odd_path() -> RelPath {
    RelPath::parse(b"jobs/two\nlines\\x41\xff").unwrap()
}

fn report() -> VerifyReport {
    let difference = Difference {
        path: odd_path().into(),
        kind: None,
        what: What::Content,
        here: Some("5 bytes".into()),
        there: None,
    };
    let peer = PeerReport {
        name: "b".to_owned(),
        equal: false,
        trouble: None,
        position: Some("1.7".to_owned()),
        differences: vec![difference],
        differences_total: 1,
        unheld: UnheldCounts { owner: 2, ..UnheldCounts::default() },
    };
    VerifyReport { equal: false, compared_entries: 9, peers: vec![peer] }
}

#[tokio::test]
async fn questions_and_answers_go_over_the_socket_whole() {
    let fake = Fake::start(|request| match request {
        Request::Wait { standbys, timeout, reply } => {
            assert_eq!((standbys, timeout), (Some(2), Some(Duration::from_millis(1500))));
            let peers = vec![PeerWait { name: "b".to_owned(), acked: Some("1.7".to_owned()), reached: true }];
            reply.send(Ok(WaitOutcome { reached: true, position: Some("1.7".to_owned()), peers }));
        }
        Request::Verify { paths, reply } => {
            assert_eq!(paths, [odd_path(), RelPath::root()]);
            reply.send(Ok(report()));
        }
        Request::Resync { asked, reply } => {
            assert_eq!((asked.paths, asked.checksum), (vec![odd_path().into()], true));
            reply.send(Ok(ResyncReport { dry_run: asked.dry_run, ..ResyncReport::default() }));
        }
        Request::Trust { id, name, also, reply } => {
            assert_eq!((id.as_str(), name.as_str(), also), ("hs1-abc", "b", true));
            reply.send(Ok(Trusting { replaced: vec!["hs1-old".to_owned()] }));
        }
        Request::Untrust { id, reply } => {
            let refusal =
                Refusal::new(RefusalClass::Usage, format!("nobody trusts {id}")).hint("see `hotspare status`");
            reply.send(Err(refusal));
        }
        Request::Rotate { now, reply } => {
            assert!(now);
            let waiting_for = vec!["c".to_owned()];
            reply.send(Ok(Rotation { id: "hs1-next".to_owned(), waiting_for, is_done: true }));
        }
        Request::Release(reply) => reply.send(Ok(ReleaseOutcome { released: vec!["much".to_owned()] })),
        Request::Status(reply) => drop(reply),
        Request::Hold { longest, reply } => {
            assert_eq!(longest, Duration::from_secs(1));
            reply.send(Err(Refusal::new(RefusalClass::Guard, "not a replica")));
        }
        Request::Pause(reply) | Request::Resume(reply) => reply.send(Ok(())),
    })
    .await;
    let client = fake.client().await;
    assert_eq!(client.release().await.unwrap().released, ["much"]);
    let outcome = client.wait(Some(2), Some(Duration::from_millis(1500))).await.unwrap();
    assert!(outcome.reached && outcome.peers[0].reached);
    assert_eq!(client.verify(vec![odd_path(), RelPath::root()]).await.unwrap(), report());
    assert!(client.resync(vec![odd_path()], true, true).await.unwrap().dry_run);
    let Err(ClientError::Refused(refusal)) = client.hold(Duration::from_secs(1)).await else { panic!() };
    assert_eq!((refusal.class, refusal.message.as_str()), (RefusalClass::Guard, "not a replica"));
    client.pause().await.unwrap();
    client.resume().await.unwrap();
    let name = NodeName::try_from("b".to_owned()).unwrap();
    assert_eq!(client.trust("hs1-abc".to_owned(), name, true).await.unwrap().replaced, ["hs1-old"]);

    assert_eq!(client.rotate(true).await.unwrap().waiting_for, ["c"]);

    let ClientError::Refused(refusal) = client.untrust("hs1-x".to_owned()).await.unwrap_err() else { panic!() };
    assert_eq!(refusal.message, "nobody trusts hs1-x");
    assert_eq!((refusal.class, refusal.hint.as_deref()), (RefusalClass::Usage, Some("see `hotspare status`")));

    let ClientError::Refused(refusal) = client.status().await.unwrap_err() else { panic!() };
    assert_eq!(refusal.class, RefusalClass::Unreachable, "a dropped reply says that the daemon is ending");
}

#[tokio::test]
async fn an_outcome_without_peers_and_a_wait_without_end_are_no_special_case() {
    let fake = Fake::start(|request| {
        if let Request::Wait { standbys: None, timeout: None, reply } = request {
            reply.send(Ok(WaitOutcome { reached: false, position: None, peers: vec![] }));
        }
    })
    .await;
    assert!(!fake.client().await.wait(None, None).await.unwrap().reached);
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_daemon() {
    let fake = Fake::start(drop).await;
    let socket = fake.socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let dir = fake.stop().await;
    assert!(!socket.exists());
    drop(dir);
}

#[tokio::test]
async fn a_socket_that_a_killed_daemon_left_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    drop(StdListener::bind(&socket).unwrap());
    assert!(matches!(Client::connect(&socket).await, Err(ClientError::NoDaemon(_))));
    let server = Server::bind(&socket).await.unwrap();
    Client::connect(&socket).await.unwrap();
    drop(server);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_pid_of_the_first_and_does_no_harm() {
    let fake = Fake::start(drop).await;
    let error = Server::bind(&fake.socket()).await.unwrap_err();
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&error, ServeError::Taken { pid: Some(of), .. } if *of == pid), "{error:?}");
    assert!(error.to_string().starts_with(&format!("another daemon runs (pid {pid})")), "{error}");
    fake.client().await;
}

#[tokio::test]
async fn what_is_no_socket_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("control.sock");
    fs::create_dir(&file).unwrap();
    assert!(matches!(Server::bind(&file).await, Err(ServeError::NoSocket(_))));
    assert!(file.is_dir());
}

#[tokio::test]
async fn no_socket_means_no_daemon() {
    let error = Client::connect(Path::new("/nowhere/control.sock")).await.unwrap_err();
    assert_eq!(error.to_string(), "no daemon is running for this configuration (socket /nowhere/control.sock)");
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_in_words() {
    let fake = Fake::start(drop).await;
    for (ask, expected) in [
        ("GET /v1/nothing", "HTTP/1.1 400"),
        ("GET /v1/wait", "HTTP/1.1 400"),
        ("POST /v1/verify", "unknown field `path`"),
    ] {
        let mut stream = UnixStream::connect(fake.socket()).await.unwrap();
        let body = r#"{"path":[]}"#;
        let text = format!(
            "{ask} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(expected) && answer.contains(r#""class":"usage""#), "{ask}: {answer}");
    }
}

#[tokio::test]
async fn a_path_that_leaves_the_home_is_refused() {
    assert!(serde_json::from_str::<VerifyAsk>(r#"{"paths":["a/b"]}"#).is_ok());
    assert!(serde_json::from_str::<VerifyAsk>(r#"{"paths":["../b"]}"#).is_err());
    assert_eq!(serde_json::to_string(&PathText(odd_path())).unwrap(), r#""jobs/two\\x0alines\\\\x41\\xff""#);
}

#[tokio::test]
async fn an_answer_nobody_waits_for_any_more_is_seen_to_be_abandoned() {
    let (gone, abandoned) = std::sync::mpsc::sync_channel(1);
    let fake = Fake::start(move |request| {
        if let Request::Verify { reply, .. } = request {
            let gone = gone.clone();
            tokio::task::spawn_blocking(move || {
                let patience = (0..1000).take_while(|_| !reply.is_abandoned());
                patience.for_each(|_| std::thread::sleep(Duration::from_millis(5)));
                let seen = reply.is_abandoned();
                gone.send(seen).unwrap();
            });
        }
    })
    .await;
    let client = fake.client().await;
    let asking = tokio::time::timeout(Duration::from_millis(100), client.verify(vec![])).await;
    assert!(asking.is_err());
    let seen = tokio::task::spawn_blocking(move || abandoned.recv_timeout(Duration::from_secs(10))).await.unwrap();
    assert!(seen.unwrap());
}
