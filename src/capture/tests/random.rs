//! Random work on a home, a cut after every batch: the tree must be what is on disk.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::bench::{BACKENDS, Bench, noise};
use crate::thought::dice::Dice;
use crate::thought::generation::Quality;
use crate::watch::Options;

/// All paths below `home`, but for what is hotspare's own.
fn paths(home: &Path) -> Vec<PathBuf> {
    let mut found = vec![home.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if found[at].symlink_metadata().unwrap().is_dir() {
            let names = fs::read_dir(&found[at]).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<_> = names.filter(|path| !path.ends_with(".hotspare")).collect();
            names.sort();
            found.extend(names);
        }
        at += 1;
    }
    found
}

pub(super) struct Writer<'a> {
    pub(super) home: &'a Path,
    pub(super) dice: Dice,
    /// What was done since the last cut.
    pub(super) log: Vec<String>,
}

impl Writer<'_> {
    fn pick(&mut self, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let all: Vec<_> = paths(self.home).into_iter().filter(|path| path != self.home && fits(path)).collect();
        (!all.is_empty()).then(|| all[self.dice.index(all.len())].clone())
    }

    fn directory(&mut self) -> PathBuf {
        self.pick(is_directory).filter(|_| self.dice.index(3) > 0).unwrap_or_else(|| self.home.to_owned())
    }

    /// A path for something new or replaced.
    fn target(&mut self) -> PathBuf {
        let directory = self.directory();
        directory.join(["a", "b", "c", "d", "e", "config.xml", "log"][self.dice.index(7)])
    }

    fn content(&mut self) -> Vec<u8> {
        let length = [0, 1, 100, 5000, 70_000, 200_000, 1_100_000][self.dice.index(7)];
        noise(self.dice.index(50) as u64, length)
    }

    /// One operation, if it makes sense; errors (a name taken, a directory moved into itself) are part of the game.
    pub(super) fn step(&mut self) {
        let mut kind = self.dice.index(19);
        // A name that came, was written through and went before anyone looked leaves no word of what other names it had: no name goes in a
        // batch in which a link was made.
        if self.log.iter().any(|done| done.starts_with("link")) && [7, 8, 9, 10, 12, 13, 17, 18].contains(&kind) {
            kind %= 7;
        }
        let to = self.target();
        let content = self.content();
        let at = u64::try_from(self.dice.index(100_000)).unwrap();
        let file = self.pick(|path| is_file(path) && path.metadata().is_ok_and(|found| found.len() < 3_000_000));
        let any = self.pick(|_| true);
        let done = match (kind, file, any) {
            (0 | 1, ..) => fs::write(&to, &content).map(|()| format!("write {to:?}")),
            (2 | 3, ..) => fs::create_dir(&to).map(|()| format!("mkdir {to:?}")),
            (4, Some(file), _) => append(&file, &content).map(|()| format!("append {file:?}")),
            (5, Some(file), _) => {
                write_at(&file, &content[..content.len().min(4096)], at).map(|()| format!("write in {file:?} at {at}"))
            }
            (6, Some(file), _) => {
                let old = fs::read(&file).unwrap();
                fs::write(&file, [&content[..], &old[..], b"more"].concat())
                    .map(|()| format!("rewrite longer {file:?}"))
            }
            (7 | 8, Some(file), _) => fs::rename(&file, &to).map(|()| format!("rename {file:?} {to:?}")),
            (9, _, Some(any)) => fs::rename(&any, &to).map(|()| format!("rename {any:?} {to:?}")),
            (10, ..) => self.swap(),
            (11, Some(file), _) => fs::hard_link(&file, &to).map(|()| format!("link {file:?} {to:?}")),
            (12, Some(file), _) => fs::remove_file(&file).map(|()| format!("unlink {file:?}")),
            (13, _, Some(any)) => remove(&any).map(|()| format!("remove {any:?}")),
            (14, ..) => symlink(format!("target-{at}"), &to).map(|()| format!("symlink {to:?}")),
            (15, _, Some(any)) if !any.is_symlink() => {
                let mode = 0o700 | u32::try_from(at & 0o77).unwrap();
                fs::set_permissions(&any, fs::Permissions::from_mode(mode)).map(|()| format!("chmod {any:?}"))
            }
            (16, Some(file), _) => {
                let time = SystemTime::UNIX_EPOCH + Duration::new(at, 123);
                OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .and_then(|open| open.set_modified(time))
                    .map(|()| format!("utimes {file:?}"))
            }
            (17, Some(file), _) => save(&file, &content).map(|()| format!("save {file:?}")),
            (18, _, Some(any)) => replace(&any, &content).map(|()| format!("replace {any:?}")),
            _ => return,
        };
        if let Ok(done) = done {
            self.log.push(done);
        }
    }

    fn swap(&mut self) -> std::io::Result<String> {
        let (Some(a), Some(b)) = (self.pick(is_directory), self.pick(is_directory)) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags)?;
        Ok(format!("swap {a:?} {b:?}"))
    }
}

fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

fn is_file(path: &Path) -> bool {
    path.is_file() && !path.is_symlink()
}

fn append(file: &Path, content: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().append(true).open(file)?.write_all(content)
}

fn write_at(file: &Path, content: &[u8], at: u64) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all_at(content, at)
}

fn save(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = file.with_extension("tmp");
    fs::write(&temporary, content)?;
    fs::rename(&temporary, file)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if is_directory(path) { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let was_directory = is_directory(path);
    remove(path)?;
    if was_directory {
        return fs::write(path, content);
    }
    fs::create_dir(path)?;
    fs::write(path.join("inside"), content)
}

fn play(seed: u64, batches: usize) {
    let backend = BACKENDS[usize::from(seed % 2 == 1)];
    let mut bench = Bench::new(backend);
    let home = bench.home.clone();
    let mut writer = Writer { home: &home, dice: Dice::new(seed), log: Vec::new() };
    for _ in 0..40 {
        writer.step();
    }
    for batch in 0..batches {
        println!("seed {seed} batch {batch}:\n{}", writer.log.join("\n"));
        let cut = bench.cut();
        let log = writer.log.join("\n");
        assert_eq!(cut.quality, Quality::Consistent, "seed {seed} batch {batch} {backend:?}\n{log}");
        bench.hash_probed();
        let differences = bench.differences();
        let steps = &cut.steps;
        assert!(
            differences.is_empty(),
            "seed {seed} batch {batch} {backend:?}\n{}\n{log}\n{steps:#?}",
            differences.join("\n")
        );
        let again: BTreeSet<_> = bench.walker.dirty().paths().cloned().collect();
        assert!(again.is_empty(), "seed {seed} batch {batch} {backend:?}: still dirty {again:?}\n{log}");
        writer.log.clear();
        for _ in 0..1 + writer.dice.index(12) {
            writer.step();
        }
    }
}

#[test]
fn after_any_work_the_tree_is_what_is_on_disk() {
    for seed in 0..30 {
        play(seed, 12);
    }
}

/// The same where little can be dirty at a time, and less is taken by a cut: most is left to scans.
fn play_with_little_room(seed: u64, batches: usize) {
    const DIRTY_CAP: usize = 6;
    let backend = BACKENDS[usize::from(seed % 2 == 1)];
    let mut bench = Bench::with_room(Options { backend, ..Options::default() }, &[], DIRTY_CAP);
    bench.rounds.paths = 4;
    let home = bench.home.clone();
    let mut writer = Writer { home: &home, dice: Dice::new(seed), log: Vec::new() };
    for _ in 0..batches {
        for _ in 0..1 + writer.dice.index(25) {
            writer.step();
        }
        println!("seed {seed}: {}", writer.log.join("\n"));
        bench.cut();
        // What a cut took and could not prove comes on top.
        let dirty = bench.walker.dirty().len();
        assert!(dirty <= DIRTY_CAP + 2 * bench.rounds.paths, "seed {seed}: {dirty} paths are dirty");
        for _ in 0..writer.dice.index(10) {
            writer.step();
        }
        bench.settle();
        bench.assert_same();
    }
}

#[test]
fn with_room_for_few_dirty_paths_all_changes_are_found() {
    for seed in 0..20 {
        play_with_little_room(seed, 5);
    }
}

#[test]
#[ignore = "minutes: the same with many more seeds"]
fn after_any_work_the_tree_is_what_is_on_disk_long() {
    for seed in 1000..1400 {
        play(seed, 25);
    }
}
