//! The table of guarantees in the crate's own page names tests that exist, and leaves out no guarantee.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

/// All sources and tests, as one text.
fn sources(at: &Path, found: &mut String) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_guarantee_is_held_by_tests_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(top.join("src/lib.rs")).unwrap();
    let table = page.split_once("# What holds the guarantees").unwrap().1;
    let rows: Vec<Vec<&str>> =
        table.lines().filter_map(|line| line.strip_prefix("//! | ")).map(|row| row.split('|').collect()).collect();
    let mut all = String::new();
    sources(&top.join("src"), &mut all);
    sources(&top.join("tests"), &mut all);
    let named: Vec<&str> = rows.iter().flat_map(|row| row[1].split('`').skip(1).step_by(2)).collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    for guarantee in ["G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9"] {
        assert!(rows.iter().any(|row| row[0].contains(guarantee)), "{guarantee} is not held");
    }
}
