//! Passes: what is kept open, and for how long.

#![expect(clippy::disallowed_methods, reason = "tests move directories as other programs do")]

use super::{Home, rel};
use crate::fs::pass::USES;

/// True if the file cannot be made because what is on the way to it is no directory.
fn is_barred(home: &Home, path: &str) -> bool {
    home.root.create_file(&rel(path)).is_err_and(|error| error.is_not_found() || error.is_refused_link())
}

/// Moves `a` of the home away, as another program would, and puts a link to a directory outside in its place.
fn swap(home: &Home, outside: &Home) {
    std::fs::rename(home.host_path("a"), outside.host_path("moved")).unwrap();
    outside.directory("bait");
    outside.directory("bait/b");
    std::os::unix::fs::symlink(outside.host_path("bait"), home.host_path("a")).unwrap();
}

#[test]
fn a_directory_is_kept_open_for_a_while_and_a_link_in_its_place_is_never_gone_through() {
    for home in [Home::new(), Home::stepwise()] {
        let outside = Home::new();
        home.directory("a");
        home.directory("a/b");
        let pass = home.root.pass();
        let file = |number: u32| rel(&format!("a/b/{number}"));
        home.root.create_file(&file(0)).unwrap();
        swap(&home, &outside);
        let made = (1..=2 * USES).take_while(|&number| home.root.create_file(&file(number)).is_ok()).count();
        assert_eq!(made, usize::try_from(USES).unwrap() - 1, "it is looked up again after {USES} uses");
        assert_eq!(outside.root.list(&rel("moved/b")).unwrap().len(), made + 1);
        assert!(is_barred(&home, "a/b/0"));
        drop(pass);
        assert!(outside.root.list(&rel("bait/b")).unwrap().is_empty());
    }
}

#[test]
fn without_a_pass_and_after_it_nothing_is_kept() {
    let (home, outside) = (Home::new(), Home::new());
    home.directory("a");
    home.directory("a/b");
    let (first, second) = (home.root.pass(), home.root.pass());
    home.root.create_file(&rel("a/b/1")).unwrap();
    drop(first);
    home.root.create_file(&rel("a/b/2")).unwrap();
    drop(second);
    home.root.create_file(&rel("a/b/3")).unwrap();
    swap(&home, &outside);
    assert!(is_barred(&home, "a/b/4"));
}

#[test]
fn what_is_moved_or_removed_by_the_root_itself_is_let_go_of_at_once() {
    let home = Home::new();
    let _pass = home.root.pass();
    home.directory("a");
    for undo in 0..3 {
        home.directory("a/b");
        home.file("a/b/old", b"");
        home.file("a/bc", b"");
        match undo {
            0 => home.root.rename(&rel("a"), &rel("moved")).unwrap(),
            1 => assert_eq!(home.root.remove_tree(&rel("a")).unwrap(), 4),
            _ => {
                home.root.remove_file(&rel("a/b/old")).unwrap();
                home.root.remove_directory(&rel("a/b")).unwrap();
                assert!(is_barred(&home, "a/b/new"));
                break;
            }
        }
        home.directory("a");
        home.directory("a/b");
        home.file("a/b/new", b"");
        assert!(std::fs::exists(home.host_path("a/b/new")).unwrap());
        home.root.remove_tree(&rel("a/b")).unwrap();
    }
}
