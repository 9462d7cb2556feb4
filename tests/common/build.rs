//! Making and changing trees of files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hotspare::thought::dice::Dice;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

/// Writes a file, with the directories above it.
pub(crate) fn file(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn append(path: &Path, content: impl AsRef<[u8]>) {
    use std::io::Write;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(content.as_ref()).unwrap();
}

pub(crate) fn overwrite(path: &Path, content: &[u8], offset: u64) {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(content, offset).unwrap();
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the modification time, of a link itself.
pub(crate) fn mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets an attribute, of a link itself; false where the file system has none or this process may not.
pub(crate) fn xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

pub(crate) fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// Makes directories one in another, `depth` deep, each with `name`; and a file in the last, which no single path reaches.
pub(crate) fn deep(top: &Path, name: &str, depth: usize) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut directory = rustix::fs::openat(CWD, top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)).unwrap();
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::openat(&directory, "bottom", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"deep down").unwrap();
}

/// A home of directories, files of all sizes, links and hard links; about 150 entries and 4 MiB.
pub(crate) fn home(top: &Path, seed: u64) {
    let mut dice = Dice::new(seed);
    for job in 0..12 {
        let job = top.join(format!("jobs/job-{job}"));
        file(&job.join("config.xml"), format!("<project>{}</project>", dice.index(1_000_000)));
        for build in 1..4 {
            let build = job.join(format!("builds/{build}"));
            let length = [0, 80, 4096, 70_000, 300_000][dice.index(5)];
            file(&build.join("log"), dice.noise(length));
            file(&build.join("build.xml"), "<build/>\n".repeat(dice.index(400)));
        }
        std::os::unix::fs::symlink("builds/3", job.join("last")).unwrap();
    }
    file(&top.join("plugins/git.jpi"), dice.noise(1_200_000));
    fs::hard_link(top.join("plugins/git.jpi"), top.join("plugins/git.bak")).unwrap();
    fs::create_dir_all(top.join("empty/also-empty")).unwrap();
}

/// Lets everything below `top` be removed.
pub(crate) fn unlock(top: &Path) {
    let Ok(entries) = fs::read_dir(top) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700)).ok();
            unlock(&entry.path());
        }
    }
}
