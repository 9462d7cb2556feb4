//! What a running primary says to a peer that it cannot understand, spoken to over the library's own network room.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::time::Duration;

use common::build;
use common::pair::Pair;
use hotspare::net::endpoint::{Endpoint, Limits};
use hotspare::net::identity::Identity;
use hotspare::net::link::Link;
use hotspare::net::trust::TrustedPeers;
use hotspare::thought::wire::message::{DATA_CAP, Hello, Message, PROTOCOLS, RefusedWhy, Role};
use hotspare::words::position::NodeName;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A standby that can say anything.
struct Stranger {
    endpoint: Endpoint,
    address: String,
    name: NodeName,
}

impl Stranger {
    /// One that `pair`'s primary trusts under the name `odd`. To be called inside a runtime.
    fn of(pair: &Pair) -> Self {
        let identity = Identity::load_or_create(&{
            let state = pair.bed.path("odd");
            std::fs::create_dir(&state).unwrap();
            state
        })
        .unwrap();
        let id = identity.id().to_string();
        let told = pair.ask(&pair.primary, &["trust", &id, "--name", "odd"]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        let trusted = TrustedPeers::new();
        trusted.trust(pair.id(&pair.primary).parse().unwrap(), "jenkins-a".to_owned().try_into().unwrap());
        let limits = Limits { frame_cap_bytes: DATA_CAP, ..Limits::default() };
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &identity, trusted, limits).unwrap();
        let address = format!("127.0.0.1:{}", pair.primary.port);
        Self { endpoint, address, name: "odd".to_owned().try_into().unwrap() }
    }

    fn hello(&self) -> Hello {
        common::peer::hello(self.name.as_str(), Role::Standby)
    }

    /// Greets with these bytes and gives all messages up to a refusal or the end of the link.
    async fn say(&self, kind: u8, payload: &[u8]) -> Vec<Message> {
        let mut heard = Vec::new();
        let talk = async {
            let connection = self.endpoint.connect(self.address.clone()).await.unwrap();
            let mut link = Link::open(connection).await.unwrap();
            link.send(kind, payload).await.unwrap();
            while let Ok(Some((kind, payload))) = link.recv().await {
                let message = Message::decode(kind, &payload).unwrap().unwrap();
                let is_last = matches!(message, Message::Refused(_));
                heard.push(message);
                if is_last {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap();
        heard
    }

    async fn refused(&self, hello: Hello) -> (RefusedWhy, String) {
        let (kind, payload) = Message::from(hello).encode().unwrap();
        let heard = self.say(kind, &payload).await;
        match &heard[..] {
            [Message::Hello(_), Message::Refused(refused)] => (refused.why, refused.text.clone()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_cannot_be_understood_is_told_why_and_the_others_are_served_on() {
    let mut pair = Pair::trusting();
    build::home(&pair.bed.source(), 60);
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stranger = Stranger::of(&pair);
        let (why, text) = stranger.refused(Hello { protocols: (9, 9), ..stranger.hello() }).await;
        assert_eq!(why, RefusedWhy::Protocol);
        assert!(text.contains("jenkins-a speaks protocols 1 to 1") && text.contains("odd speaks 9 to 9"), "{text}");
        assert!(text.ends_with("upgrade hotspare on jenkins-a"), "{text}");
        // A later version that still speaks ours is refused for nothing but its role.
        let later = Hello { protocols: (PROTOCOLS.0, PROTOCOLS.1 + 1), role: Role::Primary, ..stranger.hello() };
        assert_eq!(stranger.refused(later).await.0, RefusedWhy::Role);
        let (why, text) = stranger.refused(Hello { needs: 1 << 40, ..stranger.hello() }).await;
        assert_eq!(why, RefusedWhy::Protocol);
        assert!(text.contains("odd needs what hotspare on jenkins-a does not know"), "{text}");
        let (why, text) = stranger.refused(Hello { role: Role::Primary, ..stranger.hello() }).await;
        assert_eq!(why, RefusedWhy::Role, "{text}");
        let node: NodeName = "jenkins-a".to_owned().try_into().unwrap();
        let (why, text) = stranger.refused(Hello { node, ..stranger.hello() }).await;
        assert_eq!(why, RefusedWhy::Name, "{text}");
        let node: NodeName = "someone-else".to_owned().try_into().unwrap();
        let (why, text) = stranger.refused(Hello { node, ..stranger.hello() }).await;
        assert_eq!(why, RefusedWhy::Name);
        assert!(text.contains("trusted as odd") && text.contains("someone-else"), "{text}");
        // What is no hello at all, and what is no message, only ends that link.
        for (kind, payload) in [(1, &b"\xff\xff\xff\xff\xff"[..]), (200, b"x"), (3, b"")] {
            let heard = stranger.say(kind, payload).await;
            assert!(heard.iter().all(|message| matches!(message, Message::Hello(_))), "{heard:?}");
        }
    });
    let log = pair.primary.log();
    assert!(log.contains("node odd speaks 9 to 9"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    let untrusted =
        pair.status(&pair.primary)["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == "odd").cloned();
    assert_eq!(untrusted.unwrap()["connected"], false);
    build::file(&pair.bed.src("after"), "x");
    let waited = pair.ask(&pair.primary, &["wait", "--standbys", "1", "--timeout", "120s"]);
    assert_eq!(waited.code, Some(0), "{}{}", waited.stdout, pair.told());
    pair.until_equal();
}
