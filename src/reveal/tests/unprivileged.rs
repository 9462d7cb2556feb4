//! Fidelity where attributes get in each other's way, and as an ordinary user.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::snapshot::differences;
use super::*;

const DIRECTORY: &str = "HOTSPARE_TEST_UNPRIVILEGED";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An access ACL that lets user 1234 read (version 2; user, user 1234, group, mask, others).
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn attributes_that_undo_each_other_arrive_all() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ground = Ground::new();
    let at = ground.source();
    for name in ["setuid", "acl", "immutable mode", "empty"] {
        fs::write(at.join(name), name).unwrap();
    }
    fs::write(at.join("empty"), "").unwrap();
    chown(at.join("setuid"), Some(1000), Some(1001)).unwrap();
    mode(&at.join("setuid"), 0o6755);
    rustix::fs::setxattr(at.join("acl"), "system.posix_acl_access", &acl(), rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(at.join("immutable mode"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    mode(&at.join("immutable mode"), 0o000);
    fs::create_dir(at.join("sticky")).unwrap();
    mode(&at.join("sticky"), 0o1777);
    fs::create_dir(at.join("sealed")).unwrap();
    fs::write(at.join("sealed/in"), "in").unwrap();
    mode(&at.join("sealed"), 0o000);
    symlink("nowhere", at.join("link")).unwrap();
    std::os::unix::fs::lchown(at.join("link"), Some(77), Some(78)).unwrap();
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"end", (5 << 20) - 3).unwrap();
    let mut replica = ground.open();
    let mut primary = Primary::new(&at, &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    assert_eq!(replica.unheld(), Default::default());
    // Then in place: an owner under a setuid bit, an ACL taken away, a mode under an ACL.
    chown(at.join("setuid"), Some(2000), None).unwrap();
    mode(&at.join("setuid"), 0o4711);
    rustix::fs::removexattr(at.join("acl"), "system.posix_acl_access").unwrap();
    rustix::fs::setxattr(at.join("empty"), "system.posix_acl_access", &acl(), rustix::fs::XattrFlags::empty()).unwrap();
    fs::rename(at.join("sealed"), at.join("sticky/sealed")).unwrap();
    fs::write(at.join("sticky/sealed/more"), "more").unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    let stat = fs::metadata(ground.replica().join("setuid")).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (2000, 0o4711));
}

#[test]
fn directories_keep_their_times_through_everything_that_moves_below_them() {
    let ground = Ground::new();
    let at = ground.source();
    for name in ["a", "a/b", "c", "c/d", "stays", "from", "to"] {
        fs::create_dir(at.join(name)).unwrap();
    }
    for name in ["a/b/f", "c/d/g", "stays/x", "from/y", "from/z"] {
        fs::write(at.join(name), name).unwrap();
    }
    let settle = |base: u64| {
        for (number, name) in (base..).zip(["", "a", "a/b", "a/b2", "c", "to/d", "stays", "from", "to"]) {
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(number * 1000, 5);
            if let Ok(directory) = fs::File::open(at.join(name)) {
                directory.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
            }
        }
    };
    settle(1);
    let mut replica = ground.open();
    let mut primary = Primary::new(&at, &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    // The same times again after the changes: no operation says that they changed.
    fs::remove_file(at.join("stays/x")).unwrap();
    fs::rename(at.join("from/y"), at.join("to/y")).unwrap();
    fs::rename(at.join("c/d"), at.join("to/d")).unwrap();
    fs::rename(at.join("a/b"), at.join("a/b2")).unwrap();
    fs::hard_link(at.join("from/z"), at.join("a/z")).unwrap();
    settle(1);
    let generation = primary.generation();
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}

#[test]
fn hard_links_to_new_old_and_renamed_files_arrive_as_such() {
    let ground = Ground::new();
    let at = ground.source();
    fs::write(at.join("old"), "old").unwrap();
    fs::write(at.join("moves"), "moves").unwrap();
    fs::write(at.join("edited"), Dice::new(1).noise(1_100_000)).unwrap();
    fs::hard_link(at.join("edited"), at.join("edited too")).unwrap();
    let mut replica = ground.open();
    let mut primary = Primary::new(&at, &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    fs::write(at.join("new"), "new").unwrap();
    // Behind everything that is made: it must have arrived when the links are made.
    fs::rename(at.join("moves"), at.join("z moved")).unwrap();
    for name in ["new", "old", "z moved", "edited"] {
        fs::hard_link(at.join(name), at.join(format!("link to {name}"))).unwrap();
    }
    let edited = fs::OpenOptions::new().append(true).open(at.join("edited too")).unwrap();
    std::io::Write::write_all(&mut &edited, b"more").unwrap();
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
}

#[test]
#[ignore = "run as another user by the test below"]
fn as_an_ordinary_user_read_only_directories_are_moved_and_filled() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let ground = Ground { directory: tempfile::tempdir_in(directory).unwrap() };
    for name in ["source", "replica", "state"] {
        fs::create_dir(ground.directory.path().join(name)).unwrap();
    }
    let at = ground.source();
    for name in ["read-only", "read-only/below", "target", "sealed"] {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join("file"), name).unwrap();
    }
    fs::write(at.join("log"), Dice::new(1).noise(1_100_000)).unwrap();
    fs::write(at.join("unreadable later"), "x").unwrap();
    mode(&at.join("log"), 0o444);
    mode(&at.join("read-only/below"), 0o555);
    mode(&at.join("read-only"), 0o555);
    mode(&at.join("sealed"), 0o500);
    let mut replica = ground.open();
    let mut primary = Primary::new(&at, &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    // Into one, out of one, one itself, and one below another; each is writable only as long as it is changed.
    let unsealed = |path: &str, change: &dyn Fn()| {
        let before = fs::metadata(at.join(path)).unwrap().permissions();
        mode(&at.join(path), 0o755);
        change();
        fs::set_permissions(at.join(path), before).unwrap();
    };
    unsealed("read-only/below", &|| fs::write(at.join("read-only/below/new"), "new").unwrap());
    unsealed("read-only", &|| fs::remove_file(at.join("read-only/file")).unwrap());
    mode(&at.join("read-only"), 0o755);
    fs::rename(at.join("read-only"), at.join("target/moved")).unwrap();
    mode(&at.join("target/moved"), 0o555);
    mode(&at.join("log"), 0o644);
    let log = fs::OpenOptions::new().append(true).open(at.join("log")).unwrap();
    std::io::Write::write_all(&mut &log, b"more").unwrap();
    mode(&at.join("log"), 0o444);
    ack(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    replica.steps(&super::faulty::Faulty::after(replica.root(), 9)).unwrap_err();
    drop(replica);
    let mut replica = ground.open();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    // Moved, and nothing below it changed: it is asked for by nobody else than the move.
    mode(&at.join("target/moved"), 0o755);
    fs::rename(at.join("target/moved"), at.join("again")).unwrap();
    mode(&at.join("again"), 0o555);
    let generation = primary.generation();
    take(&mut replica, &generation, &mut Dice::new(1)).unwrap();
    assert_eq!(differences(&ground.look_at_source(), &ground.look()), Vec::<String>::new());
    assert_eq!(replica.unheld(), Default::default());
    // Removed with all that is below it.
    mode(&at.join("again"), 0o755);
    mode(&at.join("again/below"), 0o755);
    fs::remove_dir_all(at.join("again")).unwrap();
    // An owner that this user cannot give is no failure.
    fs::write(at.join("of root"), "x").unwrap();
    let mut generation = primary.generation();
    let id = generation.operations.iter().position(|(operation, _)| operation.action.path() == &path("of root"));
    if let crate::thought::generation::Action::Create { entry, .. } = &mut generation.operations[id.unwrap()].0.action {
        entry.uid = 0;
        entry.mode = 0o4755;
        let mut row = primary.tree.row(&path("of root")).unwrap().unwrap();
        row.entry = entry.clone();
        primary.tree.update(&path("of root"), row).unwrap();
        generation.header.tree_after = primary.tree.digest().unwrap();
    }
    take(&mut replica, &generation.sealed(), &mut Dice::new(1)).unwrap();
    assert_eq!((replica.unheld().owner, replica.unheld().mode), (1, 1));
    assert_eq!(fs::metadata(ground.replica().join("of root")).unwrap().mode() & 0o7777, 0o755);
    // The count outlives the process, and goes with the entry.
    drop(replica);
    let mut replica = ground.open();
    assert_eq!((replica.unheld().owner, replica.unheld().mode), (1, 1));
    fs::remove_file(at.join("of root")).unwrap();
    primary.chain = replica.standing().chain;
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    assert_eq!(replica.unheld(), Default::default());
    drop(replica);
    drop(ground.open());
    mode(&at.join("sealed"), 0o700);
    println!("as user {}", rustix::process::geteuid().as_raw());
}

#[test]
fn an_ordinary_user_can_keep_a_replica() {
    let directory = tempfile::tempdir().unwrap();
    mode(directory.path(), 0o777);
    let executable = std::env::current_exe().unwrap();
    // Where it lies, another user may not look.
    let copy = directory.path().join("tests");
    fs::copy(executable, &copy).unwrap();
    mode(&copy, 0o755);
    let mut command = Command::new(copy);
    command
        .args([
            "--exact",
            "reveal::tests::unprivileged::as_an_ordinary_user_read_only_directories_are_moved_and_filled",
        ])
        .args(["--ignored", "--nocapture"])
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .env(DIRECTORY, directory.path());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("as user "),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!told.contains("as user 0"));
}
