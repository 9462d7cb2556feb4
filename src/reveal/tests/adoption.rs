//! Taking over a directory (G6): never without being told to, and nothing in it is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::faulty::Faulty;
use super::snapshot::differences;
use super::*;
use crate::words::position::Position;

fn settled(ground: &Ground) {
    fs::create_dir_all(ground.replica().join("jobs/one")).unwrap();
    fs::write(ground.replica().join("jobs/one/config.xml"), "mine").unwrap();
    fs::write(ground.replica().join("jobs/one/only here\n"), "precious").unwrap();
    fs::create_dir(ground.replica().join("mine")).unwrap();
    fs::write(ground.replica().join("mine/notes"), "notes").unwrap();
    fs::write(ground.replica().join("same"), "same").unwrap();
    fs::write(ground.replica().join("large"), Dice::new(1).noise(1_100_000)).unwrap();
    fs::create_dir_all(ground.source().join("jobs/one")).unwrap();
    fs::write(ground.source().join("jobs/one/config.xml"), "theirs").unwrap();
    fs::write(ground.source().join("same"), "same").unwrap();
    fs::write(ground.source().join("large"), Dice::new(1).noise(1_100_000)).unwrap();
}

fn adopting(ground: &Ground) -> ReplicaOptions {
    ReplicaOptions { adopt: true, ..ground.options() }
}

#[test]
fn a_directory_with_something_in_it_is_not_taken_unasked() {
    let ground = Ground::new();
    settled(&ground);
    let look = ground.look();
    let error = ground.try_open().err().expect("it is not empty");
    assert!(matches!(error, ReplicaError::NoReplica { .. }), "{error:?}");
    assert_eq!(differences(&look, &ground.look()), Vec::<String>::new());
    assert!(!ground.replica().join(".hotspare").exists());
}

#[test]
fn a_replica_of_another_home_is_refused_even_if_told_to_adopt() {
    let ground = Ground::new();
    drop(ground.open());
    let error = Replica::open(adopting(&ground), HomeId([8; 16])).err().expect("it is another home's");
    assert!(matches!(error, ReplicaError::OtherHome { found, .. } if found == HOME), "{error:?}");
    drop(ground.open());
}

/// What a bundle says it holds: the path in the list, and the content of what lies there.
fn listed(bundle: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let list = fs::read_to_string(bundle.join("paths")).unwrap();
    let mut lines = list.lines();
    assert_eq!(lines.next(), Some("hotspare replaced 1"));
    let mut found = BTreeMap::new();
    for line in lines {
        let fields: Vec<_> = line.splitn(6, ' ').collect();
        found.insert(fields[5].to_owned(), fs::read(bundle.join(fields[0])).ok());
    }
    found
}

/// Adopts, takes the first generation in the way `take` says, and opens again: everything that was there is somewhere.
fn adopts(label: &str, take: impl Fn(&mut Replica, &Generation) -> bool) {
    let ground = Ground::new();
    settled(&ground);
    let (mut replica, opening) = ground.try_open_with(&adopting(&ground)).unwrap();
    assert_eq!(opening, Opening::Adopted);
    // Told once, remembered: from here on it is a replica like any other.
    drop(replica);
    replica = ground.open();
    assert_eq!(replica.standing().position, Position::default());
    let at = Position { epoch: 1, generation: 4 };
    let mut primary = Primary::meeting(&ground.source(), &ground.state(), &replica, at);
    // An edit in place, which leaves no old inode to be moved.
    let large = fs::OpenOptions::new().append(true).open(ground.source().join("large")).unwrap();
    std::io::Write::write_all(&mut &large, b"and more").unwrap();
    let is_acked = take(&mut replica, &primary.generation());
    drop(replica);
    let mut replica = ground.open();
    if !is_acked {
        let mut primary = Primary::meeting(&ground.source(), &ground.state(), &replica, at);
        super::take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    }
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new(), "{label}");
    let bundles = ground.bundles();
    assert_eq!(bundles.len(), 1, "{label}: {bundles:?}");
    let found = listed(&bundles[0]);
    assert_eq!(found["jobs/one/config.xml"].as_deref(), Some(&b"mine"[..]), "{label}");
    assert_eq!(found["jobs/one/only here\\x0a"].as_deref(), Some(&b"precious"[..]), "{label}");
    assert!(found.contains_key("mine"), "{label}: {found:?}");
    let directory = fs::read_dir(&bundles[0]).unwrap().map(|entry| entry.unwrap().path().join("notes"));
    let notes: Vec<_> = directory.filter_map(|path| fs::read(path).ok()).collect();
    assert_eq!(notes, [b"notes"], "{label}");
    assert!(!found.contains_key("same") || found["same"].is_none(), "what is the same stays: {label}");
    // What the next generations replace is history, not a bundle.
    fs::remove_file(ground.source().join("same")).unwrap();
    let next = primary_after(&ground, &replica).generation();
    super::take(&mut replica, &next, &mut Dice::new(1)).unwrap();
    assert_eq!(ground.bundles().len(), 1, "{label}");
    assert_eq!(ground.litter(), Vec::<String>::new(), "{label}");
}

fn primary_after(ground: &Ground, replica: &Replica) -> Primary {
    Primary::meeting(&ground.source(), &ground.state(), replica, replica.standing().position)
}

#[test]
fn what_a_taken_over_directory_held_is_put_aside_whatever_crash_comes_between() {
    adopts("no crash", |replica, generation| {
        take(replica, generation, &mut Dice::new(1)).unwrap();
        true
    });
    adopts("before the ack", |replica, generation| {
        drop(stage(replica, generation, &mut Dice::new(1)).unwrap());
        false
    });
    adopts("after the ack", |replica, generation| {
        ack(replica, generation, &mut Dice::new(1)).unwrap();
        true
    });
    adopts("after the reveal", |replica, generation| {
        ack(replica, generation, &mut Dice::new(1)).unwrap();
        replica.reveal().unwrap();
        true
    });
    for changes in [1, 4, 7] {
        adopts("within the reveal", |replica, generation| {
            ack(replica, generation, &mut Dice::new(1)).unwrap();
            replica.steps(&Faulty::after(replica.root(), changes)).unwrap_err();
            true
        });
    }
}

#[test]
fn what_lies_in_the_way_is_never_lost() {
    let ground = Ground::new();
    fs::write(ground.source().join("going"), "going").unwrap();
    fs::write(ground.source().join("target"), "target").unwrap();
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    // By hand: a file where one will arrive, a directory where a link will, another file in place of one that will go.
    fs::write(ground.replica().join("new"), "by hand").unwrap();
    fs::create_dir(ground.replica().join("linked")).unwrap();
    fs::write(ground.replica().join("linked/below"), "by hand, below").unwrap();
    fs::remove_file(ground.replica().join("going")).unwrap();
    fs::write(ground.replica().join("other"), "another").unwrap();
    fs::rename(ground.replica().join("other"), ground.replica().join("going")).unwrap();
    fs::write(ground.source().join("new"), "new").unwrap();
    fs::hard_link(ground.source().join("target"), ground.source().join("linked")).unwrap();
    fs::remove_file(ground.source().join("going")).unwrap();
    let generation = primary.generation();
    ack(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    replica.steps(&Faulty::after(replica.root(), 5)).unwrap_err();
    drop(replica);
    let replica = ground.open();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    let bundle = ground.replica().join(format!(".hotspare/bundles/{}", replica.standing().position));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(bundle).unwrap() {
        let list = entry.unwrap().path();
        if list.extension().is_some_and(|extension| extension == "path") {
            let place = list.with_extension("");
            let content = fs::read(&place).or_else(|_| fs::read(place.join("below"))).unwrap();
            found.insert(fs::read_to_string(list).unwrap(), String::from_utf8(content).unwrap());
        }
    }
    let expected = [("going", "another"), ("linked", "by hand, below"), ("new", "by hand")];
    assert_eq!(found, expected.map(|(path, content)| (path.to_owned(), content.to_owned())).into());
}
