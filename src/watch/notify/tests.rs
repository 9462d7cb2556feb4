//! What notify says, and what is made of it.

#![expect(
    clippy::disallowed_methods,
    reason = "a test makes the files that are watched, in its own temporary directory"
)]

use std::time::Duration;

use ::notify::event::{DataChange, Flag, MetadataKind};
use tempfile::TempDir;

use super::super::Mailbox;
use super::super::tests::{lines, path, wait_for};
use super::*;

fn told(events: Vec<Result<Event, Error>>) -> (Vec<ChangeKind>, Arc<Known>) {
    let mailbox = Arc::new(Mailbox::new(100));
    let known = Arc::new(Known::default());
    known.lock().extend(["", "a", "a/b", "a-b", "z"].map(path));
    let (feed, nothing) = (mailbox.feed(SourceId(0)), TempDir::new().unwrap());
    let sight = Sight::open(nothing.path()).unwrap();
    let handler = Handler { home: "/home".into(), sight, feed, known: Arc::clone(&known) };
    events.into_iter().for_each(|event| handler.handle(event));
    (mailbox.drain(Duration::ZERO).into_iter().map(|change| change.kind).collect(), known)
}

fn event(kind: EventKind, path: &str) -> Event {
    Event::new(kind).add_path(path.into())
}

#[test]
fn each_event_of_notify_has_its_meaning() {
    let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
    let table = [
        (event(EventKind::Create(CreateKind::File), "/home/a/f"), "appeared a/f"),
        (event(EventKind::Create(CreateKind::Folder), "/home/d"), "appeared d/"),
        (event(EventKind::Remove(RemoveKind::File), "/home/f"), "vanished f"),
        (event(EventKind::Remove(RemoveKind::Folder), "/home/d"), "vanished d/"),
        (event(EventKind::Remove(RemoveKind::Other), "/home/z").set_info("unmount"), "unmounted z"),
        (event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "/home/f"), "touched f"),
        (event(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/home/f"), "touched f"),
        (event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/home/f"), "touched f"),
        (event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/home/f"), ""),
        (event(renamed(RenameMode::From), "/home/f").set_tracker(7), "from f"),
        (event(renamed(RenameMode::To), "/home/f").set_tracker(7), "to f"),
        (event(renamed(RenameMode::Both), "/home/f").set_tracker(7).add_path("/home/g".into()), ""),
        (event(renamed(RenameMode::From), "/home/a"), ""),
        (event(renamed(RenameMode::From), "/home"), "lost ."),
        (Event::new(EventKind::Other).set_flag(Flag::Rescan), "overflow"),
        (event(EventKind::Create(CreateKind::Folder), "/home/.hotspare"), ""),
        (event(EventKind::Create(CreateKind::File), "/home/.hotspare/barriers/barrier-1-1"), ""),
        (event(EventKind::Remove(RemoveKind::Folder), "/home/.hotspare/barriers"), "lost .hotspare/barriers"),
        (event(renamed(RenameMode::From), "/home/.hotspare").set_tracker(7), "lost .hotspare/barriers"),
        (event(EventKind::Create(CreateKind::File), "/homer/f"), ""),
    ];
    for (event, expected) in table {
        let said = format!("{event:?}");
        let (kinds, _) = told(vec![Ok(event)]);
        assert_eq!(lines(&kinds).join("\n"), expected, "{said}");
    }
    let (kinds, _) = told(vec![Err(Error::generic("a failed read"))]);
    assert_eq!(kinds, [ChangeKind::Overflow]);
}

#[test]
fn what_notify_drops_is_no_longer_thought_watched() {
    let from = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    for event in [event(from, "/home/a").set_tracker(1), event(EventKind::Remove(RemoveKind::Folder), "/home/a")] {
        let (_, known) = told(vec![Ok(event)]);
        assert_eq!(*known.lock(), BTreeSet::from(["", "a-b", "z"].map(path)));
    }
    let (_, known) = told(vec![Ok(event(from, "/home/a"))]);
    assert_eq!(known.lock().len(), 5, "a directory that only says it moved is still watched");
}

#[test]
fn a_handler_that_is_held_up_loses_events_and_says_so() {
    let limit: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let home = TempDir::new().unwrap();
    let home = home.path().canonicalize().unwrap();
    std::fs::create_dir_all(home.join(".hotspare/barriers")).unwrap();
    let mailbox = Arc::new(Mailbox::new(2 * limit));
    let mut source = NotifySource::open(&home, mailbox.feed(SourceId(0))).unwrap();
    source.watch_directory(&path(""), None).unwrap();
    let known = Arc::clone(&source.known);
    let held = known.lock();
    for number in 0..=limit / 2 {
        let file = home.join(number.to_string());
        drop(std::fs::File::create(&file).unwrap());
        std::fs::remove_file(&file).unwrap();
    }
    drop(held);
    wait_for(&mailbox, &mut Vec::new(), |seen| seen.iter().any(|change| change.kind == ChangeKind::Overflow));
    source.restart().unwrap();
    assert_eq!(source.watches(), 0);
}
