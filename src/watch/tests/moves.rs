//! Directories that are moved, replaced, removed under the watch.

use super::*;

#[test]
fn a_moved_directory_is_told_by_its_new_path_once_it_is_watched_there() {
    // The caller may learn of the new name before it has dealt with the old one.
    for (backend, new_first) in [(BACKENDS[0], false), (BACKENDS[0], true), (BACKENDS[1], false), (BACKENDS[1], true)] {
        let mut house = House::open(backend);
        house.watch("");
        house.make("old");
        house.make("old/sub");
        house.settled();

        fs::rename(house.at("old"), house.at("new")).unwrap();
        assert_eq!(lines(&house.settled()), ["from old", "to new"], "{backend:?}");
        if new_first {
            house.watch("new");
            house.watch("new/sub");
            house.watcher.unwatch_directory(&path("old"));
        } else {
            house.watcher.unwatch_directory(&path("old"));
            house.watch("new");
            house.watch("new/sub");
        }
        assert_eq!(house.watcher.watches(), 3, "{backend:?}");
        File::create(house.at("new/sub/f")).unwrap();
        File::create(house.at("new/g")).unwrap();
        let expected = ["appeared new/sub/f", "touched new/sub/f", "appeared new/g", "touched new/g"];
        assert_eq!(lines(&house.settled()), expected, "{backend:?}, new first: {new_first}");
    }
}

#[test]
fn what_takes_the_place_of_a_watched_directory_unseen_is_watched_when_asked_for() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        // The directory above is not watched: nobody tells that it moved.
        fs::create_dir_all(house.at("p/d")).unwrap();
        house.watch("p/d");
        fs::rename(house.at("p"), house.at("q")).unwrap();
        fs::create_dir_all(house.at("p/d")).unwrap();
        house.watch("p/d");
        assert_eq!(house.watcher.watches(), 1);
        File::create(house.at("p/d/new")).unwrap();
        File::create(house.at("q/d/old")).unwrap();
        assert_eq!(lines(&house.settled()), ["appeared p/d/new", "touched p/d/new"], "{backend:?}");
    }
}

#[test]
fn a_directory_made_again_is_told_behind_the_loss_of_the_first() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        house.make("d");
        house.settled();
        for _ in 0..50 {
            fs::remove_dir(house.at("d")).unwrap();
            // Watched at once, before anyone was told: the way of a scan that overtakes the events.
            house.make("d");
            let seen = lines(&house.settled());
            assert_eq!(seen.last().map(String::as_str), Some("appeared d/"), "{backend:?}: {seen:?}");
            // What the module asks of its caller.
            house.watch("d");
            File::create(house.at("d/f")).unwrap();
            fs::remove_file(house.at("d/f")).unwrap();
            let seen = lines(&house.settled());
            assert!(seen.contains(&"appeared d/f".to_owned()), "{backend:?}: {seen:?}");
        }
        assert_eq!(house.watcher.watches(), 2);
    }
}

#[test]
fn unwatching_ends_the_watches_below_too_and_beside_it_none() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        for directory in ["a", "a/b", "a/b/c", "a-b", "z"] {
            house.make(directory);
        }
        house.settled();
        house.watcher.unwatch_directory(&path("a"));
        house.watcher.unwatch_directory(&path("never/watched"));
        assert_eq!(house.watcher.watches(), 2, "{backend:?}");
        for name in ["a/1", "a/b/2", "a/b/c/3", "a-b/4", "z/5"] {
            File::create(house.at(name)).unwrap();
        }
        let expected = ["appeared a-b/4", "touched a-b/4", "appeared z/5", "touched z/5"];
        assert_eq!(lines(&house.settled()), expected, "{backend:?}");
    }
}

#[test]
fn a_home_that_is_moved_away_is_told() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        fs::rename(&house.home, house.outside.path().join("elsewhere")).unwrap();
        assert_eq!(lines(&house.settled()), ["lost ."], "{backend:?}");
    }
}

#[test]
fn a_lost_barrier_directory_is_told_and_mended_by_a_restart() {
    for backend in BACKENDS {
        let mut house = House::open(backend);
        house.watch("");
        house.settled();
        fs::remove_dir_all(house.at(".hotspare")).unwrap();
        assert!(matches!(house.watcher.raise_barrier(), Err(WatchError::Barriers(_))), "{backend:?}");

        let first = if backend == Backend::Notify { 0 } else { 1 };
        (first..2).for_each(|source| house.watcher.restart(SourceId(source)).unwrap());
        assert_eq!(house.watcher.watches(), 0);
        house.watch("");
        File::create(house.at("f")).unwrap();
        let mut seen = lines(&house.settled());
        seen.retain(|line| line != "lost .hotspare/barriers");
        assert_eq!(seen, ["appeared f", "touched f"], "{backend:?}");
    }
}

#[test]
fn an_unmounted_file_system_is_told() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    for backend in BACKENDS {
        let mut house = House::open(backend);
        fs::create_dir(house.at("m")).unwrap();
        if let Err(error) = mount("tmpfs", house.at("m"), "tmpfs", MountFlags::empty(), None) {
            println!("not tested, for want of privilege: {error}");
            return;
        }
        house.watch("m");
        File::create(house.at("m/f")).unwrap();
        let before = house.settled();
        unmount(house.at("m"), UnmountFlags::DETACH).unwrap();
        assert_eq!(lines(&before), ["appeared m/f", "touched m/f"], "{backend:?}");
        let mut seen = Vec::new();
        let unmounted = ChangeKind::Unmounted { path: path("m") };
        house.until(&mut seen, |seen, _| seen.iter().any(|change| change.kind == unmounted));
        house.settled();
        assert_eq!((seen.len(), house.watcher.watches()), (1, 0), "{backend:?}: {seen:?}");
    }
}
