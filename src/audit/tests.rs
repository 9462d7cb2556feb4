//! Audits of a small home in the temporary directory, after one change each.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests make, change and remove files of their own, behind the product's back"
)]

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::{AuditError, AuditOptions, Audited, Difference, Progress, What, audit};
use crate::fs::{Able, FileType, Privilege, Root, XattrPolicy};
use crate::thought::filter::{Filter, Preset};
use crate::thought::store::MemoryStore;
use crate::thought::tree::{Row, Tree};
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::{Body, Digest, Kind, LinkId, Proof, Timestamp};
use crate::words::path::{Name, RelPath};

const HOLE: u64 = 3 * 1024 * 1024;
/// All entries of [`Bed`], the root included.
const ENTRIES: u64 = 14;
/// `linked` and `jobs/twin` are one inode.
const BYTES: u64 = 5 + 7 + 6 + 3 + HOLE + 4;

/// A home and the tree that was made of it.
struct Bed {
    directory: TempDir,
    root: Root,
    tree: Tree<MemoryStore>,
    times: Vec<(RelPath, Timestamp)>,
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

fn none() -> Filter {
    Filter::new(Preset::None, &[], &[]).unwrap()
}

impl Bed {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["jobs", "jobs/a", "jobs/a/builds", "empty", ".hotspare"] {
            fs::create_dir(at(path)).unwrap();
        }
        fs::write(at("config"), "12345").unwrap();
        fs::write(at("jobs/config"), "1234567").unwrap();
        fs::write(at("jobs/a/builds/log"), "a line").unwrap();
        fs::write(at("linked"), "abc").unwrap();
        fs::hard_link(at("linked"), at("jobs/twin")).unwrap();
        fs::write(at("sparse"), "abcd").unwrap();
        fs::OpenOptions::new().write(true).open(at("sparse")).unwrap().set_len(HOLE + 4).unwrap();
        fs::write(directory.path().join(OsStr::from_bytes(b"not \xff utf-8\n")), "").unwrap();
        fs::write(at(".hotspare/marker"), "not compared").unwrap();
        symlink("jobs/a", at("link")).unwrap();
        symlink("nowhere", at("jobs/dangling")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        let mut tree = Tree::open(MemoryStore::default(), row(&root, &RelPath::root())).unwrap();
        let mut times = Vec::new();
        fill(&root, &mut tree, &RelPath::root(), &mut times);
        Self { directory, root, tree, times }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    /// Gives every path that is still there the time that the tree knows.
    fn restore_times(&self) {
        for (path, mtime) in &self.times {
            if self.root.stat(path).unwrap().is_some() {
                self.root.set_mtime(path, *mtime).unwrap();
            }
        }
    }

    fn audit_with(&self, filter: &Filter, paths: &[RelPath], options: AuditOptions<'_>) -> (Audited, Vec<Difference>) {
        let mut found = Vec::new();
        let audited =
            audit(&self.root, &self.tree, filter, &XattrPolicy::default(), paths, options, &mut |difference| {
                found.push(difference);
            })
            .unwrap();
        assert_eq!(audited.differing, found.len() as u64);
        (audited, found)
    }

    fn audit(&self, paths: &[&str]) -> (Audited, Vec<(String, What)>) {
        let paths: Vec<RelPath> = paths.iter().map(|path| rel(path)).collect();
        let (audited, found) = self.audit_with(&none(), &paths, AuditOptions::default());
        (audited, found.into_iter().map(|difference| (difference.path.to_string(), difference.what)).collect())
    }
}

fn fill(root: &Root, tree: &mut Tree<MemoryStore>, directory: &RelPath, times: &mut Vec<(RelPath, Timestamp)>) {
    times.push((directory.clone(), root.stat(directory).unwrap().unwrap().mtime));
    for (name, _) in root.list(directory).unwrap() {
        let path = directory.join(&name);
        if path.is_reserved() {
            continue;
        }
        tree.attach(&path, row(root, &path)).unwrap();
        if root.stat(&path).unwrap().unwrap().is_directory() {
            fill(root, tree, &path, times);
        } else {
            times.push((path.clone(), root.stat(&path).unwrap().unwrap().mtime));
        }
    }
}

fn row(root: &Root, path: &RelPath) -> Row {
    let stat = root.stat(path).unwrap().unwrap();
    let body = match stat.what {
        FileType::Directory => Body::Directory,
        FileType::Symlink => Body::Symlink { target: root.read_link(path).unwrap() },
        _ => {
            let content = fs::read(root.path().join(OsStr::from_bytes(path.as_bytes()))).unwrap();
            Body::File { size: stat.size, digest: Digest::of(&content), proof: Proof::Hashed }
        }
    };
    let link = (!stat.is_directory() && stat.inode.nlink > 1).then_some(LinkId(stat.inode.id.ino));
    Row::new(stat.entry(body, root.xattrs(path, &XattrPolicy::default()).unwrap(), link), stat.inode)
}

fn rewrite(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn equal_sides_have_no_difference_and_everything_is_counted() {
    let (audited, found) = Bed::new().audit(&[]);
    assert_eq!(found, []);
    let expected =
        Audited { entries: ENTRIES, bytes: BYTES, differing: 0, unheld: UnheldCounts::default(), special: 0 };
    assert_eq!(audited, expected);
}

#[test]
fn each_kind_of_difference_is_found_and_told_once() {
    type Change = fn(&Bed);
    let changes: [(&str, What, Change); 13] = [
        ("jobs/a", What::Missing, |bed| fs::remove_dir_all(bed.at("jobs/a")).unwrap()),
        ("config", What::Missing, |bed| fs::remove_file(bed.at("config")).unwrap()),
        ("more", What::Extra, |bed| {
            fs::create_dir_all(bed.at("more/and/more")).unwrap();
            rewrite(&bed.at("more/file"), "x");
        }),
        ("empty", What::Kind, |bed| {
            fs::remove_dir(bed.at("empty")).unwrap();
            rewrite(&bed.at("empty"), "now a file");
        }),
        ("link", What::Kind, |bed| {
            fs::remove_file(bed.at("link")).unwrap();
            fs::create_dir(bed.at("link")).unwrap();
        }),
        ("config", What::Content, |bed| rewrite(&bed.at("config"), "12346")),
        ("config", What::Size, |bed| rewrite(&bed.at("config"), "123456")),
        ("jobs/a", What::Mode, |bed| set_mode(&bed.at("jobs/a"), 0o2700)),
        ("config", What::Mode, |bed| set_mode(&bed.at("config"), 0o4600)),
        ("jobs/a/builds", What::Mtime, |bed| {
            bed.root.set_mtime(&rel("jobs/a/builds"), Timestamp { seconds: 1, nanoseconds: 1 }).unwrap();
        }),
        ("link", What::Target, |bed| {
            fs::remove_file(bed.at("link")).unwrap();
            symlink("jobs/b", bed.at("link")).unwrap();
        }),
        ("linked", What::Links, |bed| {
            fs::remove_file(bed.at("linked")).unwrap();
            rewrite(&bed.at("linked"), "abc");
        }),
        ("sparse", What::Content, |bed| {
            let file = fs::OpenOptions::new().write(true).open(bed.at("sparse")).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"x", HOLE / 2).unwrap();
        }),
    ];
    for (number, (path, what, change)) in changes.into_iter().enumerate() {
        let bed = Bed::new();
        change(&bed);
        if what != What::Mtime {
            bed.restore_times();
        }
        assert_eq!(bed.audit(&[]).1, [(path.to_owned(), what)], "change {number}");
    }
}

#[test]
fn files_that_are_alike_but_linked_on_disk_only_are_told() {
    let mut bed = Bed::new();
    let row = bed.tree.row(&rel("config")).unwrap().unwrap();
    bed.tree.update(&rel("jobs/config"), row).unwrap();
    fs::remove_file(bed.at("jobs/config")).unwrap();
    fs::hard_link(bed.at("config"), bed.at("jobs/config")).unwrap();
    bed.root.set_mtime(&rel("jobs"), bed.tree.row(&rel("jobs")).unwrap().unwrap().entry.mtime).unwrap();
    assert_eq!(bed.audit(&[]).1, [("jobs/config".to_owned(), What::Links)]);
}

#[test]
fn another_owner_is_a_difference_or_unheld_with_the_bits_that_go_with_it() {
    if !is_root() {
        eprintln!("skipped: another_owner_is_a_difference: files can be given away by root only");
        return;
    }
    let mut bed = Bed::new();
    lchown(bed.at("config"), Some(4321), None).unwrap();
    lchown(bed.at("link"), None, Some(4321)).unwrap();
    let owner = |path: &str| (path.to_owned(), What::Owner);
    assert_eq!(bed.audit(&[]).1, [owner("config"), owner("link")]);
    let able = Able::of(&Privilege::none(), 4321, vec![4321]);
    let unheld = || AuditOptions { able: able.clone(), ..AuditOptions::default() };
    let (audited, found) = bed.audit_with(&none(), &[], unheld());
    assert_eq!((found, audited.unheld), (Vec::new(), UnheldCounts { owner: 2, ..UnheldCounts::default() }));
    let mut row = bed.tree.row(&rel("config")).unwrap().unwrap();
    row.entry.mode |= 0o4000;
    bed.tree.update(&rel("config"), row).unwrap();
    let (audited, found) = bed.audit_with(&none(), &[], unheld());
    assert_eq!((found, audited.unheld.mode), (Vec::new(), 1));
    set_mode(&bed.at("config"), 0o604);
    assert_eq!(bed.audit_with(&none(), &[], unheld()).1.len(), 1);
    set_mode(&bed.at("config"), 0o644);
    set_mode(&bed.at("jobs/config"), 0o4644);
    assert_eq!(bed.audit_with(&none(), &[], unheld()).1.len(), 1, "a bit too many is a difference, whoever owns it");
}

#[test]
fn extended_attributes_are_compared_as_far_as_the_policy_covers_them() {
    let bed = Bed::new();
    let set = |name: &str| rustix::fs::setxattr(bed.at("config"), name, b"1", rustix::fs::XattrFlags::empty());
    if let Err(error) = set("user.note") {
        eprintln!("skipped: extended_attributes_are_compared: the temporary directory keeps none ({error})");
        return;
    }
    let (_, found) = bed.audit_with(&none(), &[], AuditOptions::default());
    let expected = Difference {
        path: rel("config"),
        kind: Some(Kind::File),
        what: What::Xattrs,
        here: "user.note=\"1\"".to_owned(),
        there: String::new(),
    };
    assert_eq!(found, [expected]);
    let policy = XattrPolicy::default().without(b"user.note");
    let audited = audit(&bed.root, &bed.tree, &none(), &policy, &[], AuditOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(audited.differing, 0);
}

#[test]
fn what_is_special_or_reserved_or_left_out_is_no_difference() {
    let bed = Bed::new();
    let _socket = std::os::unix::net::UnixListener::bind(bed.at("jobs/socket")).unwrap();
    fs::create_dir(bed.at(".hotspare/stage")).unwrap();
    rewrite(&bed.at("jobs/x.tmp"), "left out");
    fs::remove_file(bed.at("jobs/config")).unwrap();
    bed.restore_times();
    let filter = Filter::new(Preset::None, &["*.tmp".into(), "/jobs/config".into()], &[]).unwrap();
    let (audited, found) = bed.audit_with(&filter, &[], AuditOptions::default());
    assert_eq!((found, audited.special, audited.entries), (Vec::new(), 1, ENTRIES - 1));
    assert_eq!(bed.audit_with(&filter, &[rel("jobs/config"), rel("jobs/x.tmp")], AuditOptions::default()).1, []);
}

#[test]
fn what_is_special_on_disk_and_a_file_in_the_tree_is_of_another_kind() {
    let bed = Bed::new();
    fs::remove_file(bed.at("config")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bed.at("config")).unwrap();
    bed.restore_times();
    let (audited, found) = bed.audit(&["config"]);
    assert_eq!((audited.special, found), (1, vec![("config".to_owned(), What::Kind)]));
}

#[test]
fn only_the_paths_asked_for_are_looked_at() {
    let bed = Bed::new();
    rewrite(&bed.at("config"), "longer than before");
    rewrite(&bed.at("jobs/a/builds/log"), "longer than before");
    bed.restore_times();
    let log = ("jobs/a/builds/log".to_owned(), What::Size);
    assert_eq!(bed.audit(&["empty", "link"]).1, []);
    let (audited, found) = bed.audit(&["jobs/a/builds", "jobs/a", "jobs/a/builds/log"]);
    assert_eq!((audited.entries, found), (3, vec![log]));
    // A link on the way is no directory.
    for nowhere in ["nowhere", "link/builds", "config/x"] {
        assert_eq!(bed.audit(&[nowhere]).1, [(nowhere.to_owned(), What::Missing)], "{nowhere}");
    }
}

#[test]
fn without_content_only_sizes_are_compared() {
    let bed = Bed::new();
    rewrite(&bed.at("config"), "12346");
    rewrite(&bed.at("jobs/config"), "1");
    bed.restore_times();
    let options = AuditOptions { content: false, ..AuditOptions::default() };
    let (audited, found) = bed.audit_with(&none(), &[], options);
    assert_eq!(audited.bytes, 0);
    assert_eq!(found.iter().map(|difference| difference.what).collect::<Vec<_>>(), [What::Size]);
}

#[test]
fn differences_come_in_the_order_of_paths_and_names_need_not_be_text() {
    let bed = Bed::new();
    let odd = RelPath::root().join(&Name::parse(b"not \xff utf-8\n").unwrap());
    fs::write(bed.directory.path().join(OsStr::from_bytes(odd.as_bytes())), "x").unwrap();
    for path in ["jobs/a/builds/log", "jobs/config", "config", "linked"] {
        fs::OpenOptions::new().append(true).open(bed.at(path)).unwrap().set_len(100).unwrap();
    }
    bed.restore_times();
    let (_, found) = bed.audit_with(&none(), &[], AuditOptions::default());
    let paths: Vec<&RelPath> = found.iter().map(|difference| &difference.path).collect();
    assert_eq!(paths.len(), 6);
    assert!(paths.is_sorted() && paths.contains(&&odd), "{paths:?}");
}

#[test]
fn progress_is_told_and_can_stop_the_audit() {
    let bed = Bed::new();
    let mut last = Progress::default();
    let mut watch = |progress: Progress| {
        assert!(progress.entries >= last.entries && progress.bytes >= last.bytes);
        last = progress;
        ControlFlow::Continue(())
    };
    let options = AuditOptions { progress: Some(&mut watch), ..AuditOptions::default() };
    bed.audit_with(&none(), &[], options);
    assert_eq!(last, Progress { entries: ENTRIES, bytes: BYTES });
    let mut stop = |progress: Progress| {
        if progress.entries == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = AuditOptions { progress: Some(&mut stop), ..AuditOptions::default() };
    let stopped = audit(&bed.root, &bed.tree, &none(), &XattrPolicy::default(), &[], options, &mut |_| {});
    assert!(matches!(stopped, Err(AuditError::Stopped { .. })));
}

#[test]
fn what_cannot_be_read_is_told_with_the_reason_and_the_rest_is_compared() {
    let bed = Bed::new();
    set_mode(&bed.at("jobs"), 0o000);
    set_mode(&bed.at("config"), 0o000);
    let found = as_ordinary_user(&bed);
    set_mode(&bed.at("jobs"), 0o755);
    let whats: Vec<(String, What)> = found.iter().map(|found| (found.path.to_string(), found.what)).collect();
    let of = |path: &str, what| (path.to_owned(), what);
    assert_eq!(
        whats,
        [
            of("config", What::Mode),
            of("config", What::Unreadable),
            of("jobs", What::Mode),
            of("jobs", What::Unreadable)
        ]
    );
    assert!(found[1].here.ends_with(": Permission denied (os error 13)"), "{}", found[1].here);
}

/// Audits without any capability: as an ordinary user who owns the files made here. Capabilities are a thread's own.
fn as_ordinary_user(bed: &Bed) -> Vec<Difference> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            bed.audit_with(&none(), &[], AuditOptions::default()).1
        });
        thread.join().unwrap()
    })
}

#[test]
fn paths_beyond_path_max_are_compared() {
    let mut bed = Bed::new();
    let name = Name::parse(&[b'd'; 200]).unwrap();
    let mut path = RelPath::root();
    for _ in 0..60 {
        path = path.join(&name);
        bed.root.make_directory(&path, 0o755).unwrap();
    }
    let mut path = RelPath::root();
    for _ in 0..60 {
        path = path.join(&name);
        let row = row(&bed.root, &path);
        bed.tree.attach(&path, row).unwrap();
    }
    bed.restore_times();
    let (audited, found) = bed.audit(&[]);
    assert_eq!((audited.entries, found), (ENTRIES + 60, Vec::new()));
    bed.root.remove_directory(&path).unwrap();
    let above = path.parent().unwrap();
    bed.root.set_mtime(&above, bed.tree.row(&above).unwrap().unwrap().entry.mtime).unwrap();
    assert_eq!(bed.audit(&[]).1, [(path.to_string(), What::Missing)]);
}

#[test]
fn an_audit_that_was_stopped_anywhere_goes_on_from_there_and_leaves_nothing_out() {
    let bed = Bed::new();
    fs::write(bed.at("config"), "54321").unwrap();
    fs::write(bed.at("jobs/a/builds/log"), "another").unwrap();
    fs::remove_file(bed.at("jobs/dangling")).unwrap();
    bed.restore_times();
    let (whole, all) = bed.audit_with(&none(), &[], AuditOptions::default());
    assert!(all.len() >= 3, "{all:?}");
    // More than what leads to the deepest entry, which is looked at again each time.
    for stop in 6..=whole.entries {
        let mut found = Vec::new();
        let mut from = None;
        let mut slices = 0;
        loop {
            let mut progress =
                |at: Progress| if at.entries > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let options = AuditOptions { from: from.take(), progress: Some(&mut progress), ..AuditOptions::default() };
            let audited =
                audit(&bed.root, &bed.tree, &none(), &XattrPolicy::default(), &[], options, &mut |difference| {
                    found.push(difference);
                });
            slices += 1;
            match audited {
                Ok(_) => break,
                Err(AuditError::Stopped { at }) => from = Some(at),
                Err(error) => panic!("{error}"),
            }
            assert!(slices < 100, "it does not come forward from {from:?}");
        }
        // What leads to where it went on is looked at again.
        found.sort_by(|a, b| a.path.cmp(&b.path).then(a.what.cmp(&b.what)));
        found.dedup();
        assert_eq!(found.len(), all.len(), "stopped after {stop}: {found:?}");
    }
}
