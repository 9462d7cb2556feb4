use super::*;
use crate::words::path::RelPath;

pub(crate) fn sample() -> Status {
    let path = |bytes: &[u8]| PathText(RelPath::parse(bytes).unwrap());
    Status {
        version: VERSION,
        node: NodeStatus {
            name: "jenkins-a".to_owned(),
            id: "hs1-abcdefgh".to_owned(),
            role: RoleStatus::Primary,
            instance: "00ff".to_owned(),
            pid: 17,
            program: "0.1.0".to_owned(),
        },
        home: HomeStatus {
            path: "/var/jenkins_home".to_owned(),
            id: Some("0a".to_owned()),
            entries: 3,
            bytes: 4096,
            content_read_bytes: 0,
            filesystem: "ext4".to_owned(),
        },
        reign: Some(ReignStatus { id: "0b".to_owned(), epoch: 1 }),
        position: Some("1.18".to_owned()),
        chain: Some("0c".to_owned()),
        state: State::CatchingUp,
        promotable: Promotable { yes: false, why_not: vec!["it is the primary".to_owned()] },
        lag_seconds: None,
        paused_seconds: None,
        still_seconds: None,
        quality: Some(QualityStatus {
            quality: "partial".to_owned(),
            reasons: vec!["deferred".to_owned()],
            deferred: vec![path(b"builds/\xff")],
        }),
        generations: GenerationCounts {
            by_quality: [("consistent".to_owned(), 17)].into(),
            by_reason: [("deferred".to_owned(), 1)].into(),
        },
        peers: vec![PeerStatus {
            name: "jenkins-b".to_owned(),
            id: Some("hs1-bcdefghi".to_owned()),
            address: Some("b:7420".to_owned()),
            role: Some(RoleStatus::Standby),
            connected: true,
            state: State::Streaming,
            acked: Some("1.18".to_owned()),
            revealed: Some("1.17".to_owned()),
            lag_seconds: Some(0.25),
            bytes_sent: 1,
            bytes_received: 2,
            unheld: UnheldCounts { owner: 1, mode: 0, xattr: 0 },
            held: Some("the disk is full".to_owned()),
            trouble: None,
        }],
        pending: Pending { paths: 1, oldest_age_seconds: Some(0.5), sample: vec![path(b"a\nb")] },
        skipped: Skipped { sockets: 1, fifos: 0, devices: 0, sample: vec![path(b"s")] },
        unreadable: Unreadable {
            count: 1,
            sample: vec![UnreadablePath { path: path(b"secret"), reason: "permission denied".to_owned() }],
        },
        unheld: UnheldCounts::default(),
        watches: Watches {
            placed: 2,
            polled: 1,
            limit_hint: Some("sysctl".to_owned()),
            overflows: 3,
            home_scanned_every_seconds: Some(30),
        },
        alarms: vec!["look".to_owned()],
        warnings: vec!["mind".to_owned()],
        scrub: Some(ScrubStatus { next: Some(path(b"jobs")), entries: 7, bytes: 8, found: 1, passes: 2 }),
        progress: Some(ProgressStatus {
            phase: "reading".to_owned(),
            entries_done: 1,
            entries_total: None,
            bytes_done: 2,
            bytes_total: Some(3),
        }),
    }
}

#[test]
fn the_json_of_status_is_pinned() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&sample()).unwrap());
}

#[test]
fn what_is_written_is_read_back() {
    let status = sample();
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
}

#[test]
fn a_reader_takes_fields_and_states_of_later_versions() {
    let mut value = serde_json::to_value(sample()).unwrap();
    value["state"] = "holding its breath".into();
    value["moon"] = "full".into();
    assert_eq!(serde_json::from_value::<Status>(value).unwrap().state, State::Unknown);
}
