//! Random changes to a directory, as programs make them.

use std::ffi::OsStr;
use std::fs::{self, FileTimes, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::thought::dice::Dice;

fn pick<'a, T>(dice: &mut Dice, of: &'a [T]) -> Option<&'a T> {
    if of.is_empty() { None } else { of.get(dice.index(of.len())) }
}

/// A directory and a source of change.
pub(crate) struct Churn {
    pub(crate) at: PathBuf,
    pub(crate) dice: Dice,
    /// With privilege: changes owners too.
    pub(crate) is_root: bool,
}

impl Churn {
    fn walk(&self) -> (Vec<PathBuf>, Vec<PathBuf>, Vec<PathBuf>) {
        let (mut files, mut directories, mut links) = (Vec::new(), vec![self.at.clone()], Vec::new());
        let mut next = 0;
        while let Some(directory) = directories.get(next).cloned() {
            next += 1;
            let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            for path in names {
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                match (kind.is_dir(), kind.is_symlink()) {
                    (true, _) => directories.push(path),
                    (_, true) => links.push(path),
                    _ => files.push(path),
                }
            }
        }
        (files, directories, links)
    }

    fn name(&mut self) -> Vec<u8> {
        match self.dice.index(40) {
            0 => b"a\nline".to_vec(),
            1 => b"not \xff\xfe utf-8".to_vec(),
            2 => vec![b'n'; 255],
            3 => b"a-b".to_vec(),
            4 => "gr\u{f6}\u{df}e".into(),
            _ => vec![b'a' + u8::try_from(self.dice.index(12)).unwrap()],
        }
    }

    fn spot(&mut self, directories: &[PathBuf]) -> PathBuf {
        let name = self.name();
        pick(&mut self.dice, directories).unwrap().join(OsStr::from_bytes(&name))
    }

    /// Everything that has changed its kind or gone is fine: a step that makes no sense does nothing.
    pub(crate) fn step(&mut self) {
        let (files, directories, links) = self.walk();
        let (spot, other) = (self.spot(&directories), self.spot(&directories));
        let file = pick(&mut self.dice, &files).cloned();
        let directory = pick(&mut self.dice, &directories[1..]).cloned();
        match self.dice.index(26) {
            0..=3 => {
                let size = [0, 1, 100, 5000, 20_000][self.dice.index(5)];
                let content = self.dice.noise(size);
                fs::write(&spot, content).ok();
            }
            4 | 5 => drop(fs::create_dir(&spot)),
            6 => {
                let anew = self.dice.index(2) == 0;
                self.large(file.filter(|_| !anew).unwrap_or(spot));
            }
            7 => self.append(file),
            8 => self.patch(file),
            9 => self.insert(file),
            10 | 11 => drop(file.map(|file| fs::rename(file, &spot))),
            12 | 13 => drop(directory.map(|directory| fs::rename(directory, &spot))),
            14 => self.swap(directory, &directories),
            15 => self.cycle(&directories),
            16 => drop(file.map(|file| fs::hard_link(file, &spot))),
            17 => drop(file.map(fs::remove_file)),
            18 => drop(directory.map(fs::remove_dir_all)),
            19 => self.modes(file, directory),
            20 => self.touch(file, directory, &links),
            21 => drop(symlink(OsStr::from_bytes(&self.name()), &spot)),
            22 => self.replace(file, directory),
            23 => {
                // Out of one directory into another that moves too.
                if let (Some(file), Some(directory)) = (file, directory) {
                    fs::rename(file, directory.join("moved in")).ok();
                    fs::rename(directory, &spot).ok();
                }
            }
            24 => self.owners(file, directory, &links),
            _ => self.retarget(file, &other),
        }
    }

    fn large(&mut self, path: PathBuf) {
        let size = (1 << 20) + self.dice.index(1 << 20);
        let content = self.dice.noise(size);
        if self.dice.index(4) == 0 {
            let Ok(file) = fs::File::create(path) else { return };
            file.set_len(2 << 20).unwrap();
            file.write_all_at(&content[..100_000], 1 << 20).unwrap();
        } else {
            fs::write(path, content).ok();
        }
    }

    fn append(&mut self, file: Option<PathBuf>) {
        let Some(file) = file.and_then(|path| OpenOptions::new().append(true).open(path).ok()) else { return };
        let content = self.dice.noise(3000);
        std::io::Write::write_all(&mut &file, &content).unwrap();
    }

    /// Overwrites bytes in the middle.
    fn patch(&mut self, file: Option<PathBuf>) {
        let Some(file) = file.and_then(|path| OpenOptions::new().write(true).open(path).ok()) else { return };
        let size = usize::try_from(file.metadata().unwrap().size()).unwrap();
        let at = self.dice.index(size) as u64;
        let content = self.dice.noise(50.min(size));
        file.write_all_at(&content, at).unwrap();
    }

    /// Bytes put in, so that all behind them moves: by rename over, as editors do.
    fn insert(&mut self, file: Option<PathBuf>) {
        let Some(path) = file else { return };
        let mut content = fs::read(&path).unwrap();
        let at = self.dice.index(content.len());
        let more = self.dice.noise(77);
        content.splice(at..at, more);
        let temporary = path.with_file_name("temporary");
        if fs::write(&temporary, content).is_ok() {
            fs::rename(temporary, path).unwrap();
        }
    }

    fn swap(&mut self, a: Option<PathBuf>, directories: &[PathBuf]) {
        let (Some(a), Some(b)) = (a, pick(&mut self.dice, directories).cloned()) else { return };
        let aside = self.at.join("aside");
        if !a.starts_with(&b) && !b.starts_with(&a) && fs::rename(&a, &aside).is_ok() {
            fs::rename(&b, &a).unwrap();
            fs::rename(&aside, &b).unwrap();
        }
    }

    fn cycle(&mut self, directories: &[PathBuf]) {
        let parent = pick(&mut self.dice, directories).cloned().unwrap();
        let mut names: Vec<_> = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let [a, b, c] = names.as_slice() else {
            if names.len() > 3 {
                rotate(&self.at, &names[0], &names[1], &names[2]);
            }
            return;
        };
        rotate(&self.at, a, b, c);
    }

    fn modes(&mut self, file: Option<PathBuf>, directory: Option<PathBuf>) {
        let mode = [0o600, 0o4755, 0o2711, 0o1777, 0o444, 0o666][self.dice.index(6)];
        if let Some(file) = file {
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        let mode = [0o755, 0o555, 0o2775, 0o1777, 0o700][self.dice.index(5)];
        if let Some(directory) = directory.filter(|_| self.dice.index(2) == 0) {
            fs::set_permissions(directory, Permissions::from_mode(if self.is_root { mode } else { mode | 0o700 }))
                .unwrap();
        }
    }

    fn touch(&mut self, file: Option<PathBuf>, directory: Option<PathBuf>, links: &[PathBuf]) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(self.dice.roll() >> 34, 123_456_789);
        for path in file.iter().chain(&directory) {
            if let Ok(file) = fs::File::open(path) {
                file.set_times(FileTimes::new().set_modified(time)).ok();
            }
        }
        if let Some(link) = pick(&mut self.dice, links) {
            let root = crate::fs::Root::open(link.parent().unwrap()).unwrap();
            let name = crate::words::path::RelPath::parse(link.file_name().unwrap().as_bytes()).unwrap();
            root.set_mtime(&name, crate::words::entry::Timestamp { seconds: 12345, nanoseconds: 678 }).unwrap();
        }
        if let Some(file) = file {
            let value = self.dice.noise(20);
            rustix::fs::setxattr(file, "user.note", &value, rustix::fs::XattrFlags::empty()).ok();
        }
    }

    /// A file where a directory was, or the reverse.
    fn replace(&mut self, file: Option<PathBuf>, directory: Option<PathBuf>) {
        if self.dice.index(2) == 0 {
            let Some(file) = file else { return };
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
            fs::write(file.join("inside"), "x").unwrap();
        } else if let Some(directory) = directory {
            fs::remove_dir_all(&directory).unwrap();
            fs::write(directory, "now a file").unwrap();
        }
    }

    fn owners(&mut self, file: Option<PathBuf>, directory: Option<PathBuf>, links: &[PathBuf]) {
        if !self.is_root {
            return;
        }
        let link = pick(&mut self.dice, links).cloned();
        for path in file.into_iter().chain(directory).chain(link) {
            lchown(path, Some(1000 + u32::try_from(self.dice.index(3)).unwrap()), Some(77)).unwrap();
        }
    }

    /// A name that is given to another inode.
    fn retarget(&mut self, file: Option<PathBuf>, other: &Path) {
        let Some(file) = file else { return };
        let temporary = self.at.join("temporary link");
        if fs::hard_link(file, &temporary).is_ok() && fs::rename(&temporary, other).is_err() {
            fs::remove_file(&temporary).unwrap();
        }
        fs::remove_file(temporary).ok();
    }
}

fn rotate(at: &Path, a: &Path, b: &Path, c: &Path) {
    let aside = at.join("aside");
    fs::rename(a, &aside).unwrap();
    fs::rename(b, a).unwrap();
    fs::rename(c, b).unwrap();
    fs::rename(aside, c).unwrap();
}
