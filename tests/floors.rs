//! The floors of the house (see the crate's own page): a module uses only lower floors, its own folder, and other rooms of its
//! floor as long as no circle comes of it. The lowest two floors name nothing of the world outside.
//!
//! The sources are read as tokens: comments and texts do not count, `use a::{b, c}` is taken apart, and `super::` is followed
//! out of a room. Tests inside the house may name the world (files, clocks), but keep to the floors.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FLOORS: [&[&str]; 7] = [
    &["words"],
    &["thought"],
    &["fs", "spool", "watch", "walk", "capture", "audit", "index", "journal", "reveal", "history", "jenkins"],
    &["net"],
    &["daemon", "lease", "observe", "control"],
    &["config", "cli"],
    &["lib", "main"],
];

/// What floors 0 and 1 may not name: beginnings of paths.
const WORLD: [&[&str]; 17] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os", "unix", "fs"],
    &["std", "os", "unix", "net"],
    &["std", "os", "fd"],
    &["std", "time", "SystemTime"],
    &["SystemTime"],
    &["Instant", "now"],
    &["std", "time", "Instant", "now"],
    &["tokio"],
    &["quinn"],
    &["quinn_proto"],
    &["notify"],
    &["rustix"],
];

#[test]
fn every_room_keeps_to_its_floor() {
    let mut faults = Vec::new();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let sources = sources();
    assert!(sources.len() > 10, "the sources were found");
    for (file, text) in &sources {
        faults.extend(check(file, text));
        let (room, used) = (room_of(file), rooms_used(file, text));
        uses.entry(room.to_owned()).or_default().extend(used.into_iter().filter(|other| other != room));
    }
    faults.extend(circle(&uses).map(|rooms| format!("rooms use each other in a circle: {}", rooms.join(" -> "))));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_forbidden_edge_is_found_however_it_is_written() {
    for (file, text) in [
        ("thought/plan.rs", "use crate::fs::Root;"),
        ("thought/plan.rs", "fn f() { let x = crate::net::link(); }"),
        ("thought/wire/frame.rs", "use crate::{words::path, fs};"),
        ("thought/wire/frame.rs", "use crate::{words::{path, entry}, daemon::{primary}};"),
        ("thought/wire/mod.rs", "use super::super::net::link;"),
        ("words/path.rs", "use crate::thought::tree;"),
        ("fs/os.rs", "use crate::control::Request;"),
        ("daemon/mod.rs", "fn f(settings: &crate::config::Settings) {}"),
        ("net/mod.rs", "use crate :: /* a comment */ daemon as d;"),
        ("cli/mod.rs", "use hotspare::main::x;"),
        ("attic/mod.rs", ""),
        ("thought/mod.rs", "use crate::attic::box_of_letters;"),
        ("thought/plan.rs", "use std::fs::File;"),
        ("thought/plan.rs", "use std::{fmt, fs};"),
        ("thought/plan.rs", "use std::{io, net::{SocketAddr}};"),
        ("words/path.rs", "fn now() { std::time::SystemTime::now(); }"),
        ("thought/timing.rs", "use std::time::Instant; fn now() { Instant::now(); }"),
        ("thought/timing.rs", "use std::time::{Duration, SystemTime};"),
        ("thought/session.rs", "async fn f() { tokio::time::sleep(d).await }"),
        ("thought/session.rs", "use quinn as q;"),
        ("words/path.rs", "use rustix::fs::stat;"),
        ("thought/plan.rs", "use notify::Event;\n#[cfg(test)]\nmod tests {}"),
        ("thought/plan.rs", "#[cfg(test)]\nmod tests { use crate::fs::Root; }"),
    ] {
        assert!(!check(file, text).is_empty(), "not found: {file}: {text}");
    }
}

#[test]
fn what_is_allowed_is_not_complained_of() {
    for (file, text) in [
        ("thought/plan.rs", "use crate::words::path::RelPath; use super::tree::Tree;"),
        (
            "thought/plan.rs",
            "//! See `crate::net`.\n/* use crate::net; */ const A: &str = \"crate::net\"; // crate::fs",
        ),
        ("thought/timing.rs", "use std::time::{Duration, Instant}; fn due(now: Instant) -> Duration { now - self.at }"),
        (
            "thought/plan.rs",
            "fn tokio() { self.fs.open(); r#\"use std::fs; \"quoted\"\"#; '\"'; let a: &'a str = \"\\\"std::fs\"; }",
        ),
        ("thought/plan.rs", "use crate::words::path;\n#[cfg(test)]\nmod tests { use std::fs; }"),
        ("thought/plan/tests.rs", "use std::fs;"),
        ("capture/mod.rs", "use crate::{fs, walk, words::entry, thought};"),
        ("cli/mod.rs", "use crate::config::Settings; use crate::daemon;"),
        ("main.rs", "fn main() { hotspare::cli::main() }"),
    ] {
        assert_eq!(check(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_circle_of_rooms_is_found() {
    let uses = |edges: &[(&str, &str)]| {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            uses.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        uses
    };
    assert_eq!(circle(&uses(&[("capture", "fs"), ("capture", "walk"), ("walk", "fs")])), None);
    let found = circle(&uses(&[("cli", "fs"), ("fs", "walk"), ("walk", "stage"), ("stage", "fs")])).unwrap_or_default();
    assert_eq!(found, ["fs", "walk", "stage", "fs"]);
}

fn sources() -> Vec<(String, String)> {
    fn collect(dir: &Path, base: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            // Tests may look at whatever they like.
            if path.file_name().is_some_and(|name| name == "tests" || name == "tests.rs") {
                continue;
            }
            if path.is_dir() {
                collect(&path, base, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&base, &base, &mut found);
    found
}

/// What is wrong in one file of `src`, by its name there.
fn check(file: &str, text: &str) -> Vec<String> {
    let room = room_of(file);
    let Some(floor) = floor_of(room) else {
        return vec![format!("{file}: the room `{room}` is on no floor: give it one in tests/floors.rs")];
    };
    let mut faults = Vec::new();
    for used in rooms_used(file, text) {
        match floor_of(&used) {
            Some(below) if below <= floor => {}
            Some(above) => faults.push(format!("{file} (floor {floor}) uses `{used}` (floor {above})")),
            None => faults.push(format!("{file} uses `{used}`, which is on no floor")),
        }
    }
    if floor <= 1 {
        let mut imported = false;
        for path in paths(&tokens(without_tests(file, text))) {
            // A crate's name alone is a crate only where it is imported: `fn tokio()` is ours.
            let counts = |world: &[&str]| world[0] == "SystemTime" || path.len() > 1 || imported;
            if WORLD.iter().any(|world| counts(world) && begins_with(&path, world)) {
                faults.push(format!("{file} (floor {floor}) names {}", path.join("::")));
            }
            imported = path == ["use"];
        }
    }
    faults
}

fn begins_with(path: &[String], world: &[&str]) -> bool {
    path.len() >= world.len() && path.iter().zip(world).all(|(part, name)| part == name)
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The rooms that a file names by `crate::`, by the crate's name, or by climbing out of its own.
fn rooms_used(file: &str, text: &str) -> BTreeSet<String> {
    let is_item_of_root = |name: &str| name == "self" || name == "*";
    let used = paths(&tokens(text)).into_iter().filter_map(|path| match path.first()?.as_str() {
        "crate" => path.get(1).cloned(),
        "hotspare" => path.get(1).cloned().filter(|_| path.len() > 2 || room_of(file) == "main"),
        "super" => {
            path.iter().find(|part| *part != "super").filter(|part| floor_of(part).is_some()).cloned().filter(|_| {
                path.iter().filter(|part| *part == "super").count()
                    >= file.trim_end_matches("/mod.rs").split('/').count()
            })
        }
        _ => None,
    });
    used.filter(|name| !is_item_of_root(name)).collect()
}

fn without_tests<'a>(file: &str, text: &'a str) -> &'a str {
    if file.ends_with("/tests.rs") || file.contains("/tests/") {
        return "";
    }
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// A way from a room back to itself.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(uses: &BTreeMap<String, BTreeSet<String>>, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        let Some(room) = way.last().cloned() else { return false };
        for next in uses.get(&room).into_iter().flatten() {
            if let Some(start) = way.iter().position(|before| before == next) {
                way.drain(..start);
                way.push(next.clone());
                return true;
            }
            if !done.contains(next) {
                way.push(next.clone());
                if walk(uses, way, done) {
                    return true;
                }
                way.pop();
            }
        }
        done.insert(room);
        false
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|room| {
        let mut way = vec![room.clone()];
        (!done.contains(room) && walk(uses, &mut way, &mut done)).then_some(way)
    })
}

/// Identifiers, `::`, braces, commas and other characters; no comments, no texts.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let word = |character: char| !(character.is_alphanumeric() || character == '_');
            let length = rest.find(word).unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let marks = body.len() - body.trim_start_matches('#').len();
    let opened = body[marks..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(marks));
    Some(text.len() - opened.len() + opened.find(&close).map_or(opened.len(), |end| end + close.len()))
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, or only the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((at, _))) => text[at + 1..].find('\'').map_or(1, |end| at + 1 + end + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// All paths in the tokens, those in braces each on their own.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_name(&tokens[at]) {
            at = path(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn path(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut here = prefix.to_vec();
    here.push(tokens[at].clone());
    at += 1;
    while tokens.get(at).is_some_and(|token| token == "::") {
        match tokens.get(at + 1).map(String::as_str) {
            Some("{") => {
                at += 2;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if is_name(&tokens[at]) { path(tokens, at, &here, found) } else { at + 1 };
                }
                return at + 1;
            }
            Some(name) if is_name(name) => {
                here.push(name.to_owned());
                at += 2;
            }
            _ => {
                at += 1;
                break;
            }
        }
    }
    found.push(here);
    at
}

fn is_name(token: &str) -> bool {
    token == "*" || token.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
}
