//! Power cuts, for real: the standby's replica and state lie on a file system of their own (ext4 and XFS on a loop device), which the shutdown
//! ioctl (NOLOGFLUSH, by `xfs_io`) stops at a random moment of live replication: what was not synced by then is lost. After the file system is
//! mounted again, the replica is a whole generation, none older than what was acked, and there is no litter (G1, G2).
//!
//! `HOTSPARE_POWER_CUTS` says how often on each file system: 3 if it is not set, 100 in the long form. As root only.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::pair::Pair;
use common::whole::{acked, shown_whole};
use common::{has_tool, is_root, note, skip};
use hotspare::jenkins::checks::{Promise, check, check_age};
use hotspare::jenkins::home::{HomeSize, make};
use hotspare::jenkins::ledger::Ledger;
use hotspare::jenkins::load::{Load, LoadOptions};
use hotspare::thought::dice::Dice;
use rustix::process::Signal;

fn cuts() -> u32 {
    std::env::var("HOTSPARE_POWER_CUTS").map_or(3, |text| text.parse().unwrap())
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A file system in a file, with directories that are seen elsewhere; unmounted in the end.
struct Disk {
    image: PathBuf,
    at: PathBuf,
    seen: Vec<PathBuf>,
}

impl Disk {
    /// Makes it; `Err` says what this machine lacks.
    fn make(pair: &Pair, kind: &str) -> Result<Self, String> {
        let (image, at) = (pair.bed.path("image"), pair.bed.path("disk"));
        fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        run(&format!("mkfs.{kind}"), &["-q", image.to_str().unwrap()])?;
        let seen = vec![pair.bed.destination(), pair.state(&pair.standby)];
        let disk = Self { image, at, seen };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.at.to_str().unwrap()])?;
        for seen in &self.seen {
            let inside = self.at.join(seen.file_name().unwrap());
            for directory in [seen, &inside] {
                fs::create_dir_all(directory).unwrap();
            }
            run("mount", &["--bind", inside.to_str().unwrap(), seen.to_str().unwrap()])?;
        }
        Ok(())
    }

    /// As a loss of power: nothing more reaches the disk, not even its own log.
    fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", self.at.to_str().unwrap()]).unwrap();
    }

    /// Everywhere; `options` are umount's.
    fn unmount(&self, options: &[&str]) {
        for at in self.seen.iter().chain([&self.at]) {
            run("umount", &[options, &[at.to_str().unwrap()]].concat()).ok();
        }
    }
}

impl Drop for Disk {
    /// After a failure a daemon may still be there.
    fn drop(&mut self) {
        self.unmount(&["-l"]);
    }
}

/// What this machine lacks for it.
fn lacks(kind: &str) -> Option<String> {
    if !is_root() {
        return Some("only root mounts file systems".to_owned());
    }
    let tools = ["xfs_io", "mount"].into_iter().map(ToOwned::to_owned).chain([format!("mkfs.{kind}")]);
    tools.into_iter().find(|tool| !has_tool(tool)).map(|tool| format!("there is no {tool}"))
}

fn cut_power_on(kind: &str, test: &str) {
    if let Some(why) = lacks(kind) {
        return skip(test, &why);
    }
    let mut pair = Pair::trusting();
    fs::remove_dir_all(pair.state(&pair.standby)).ok();
    let disk = match Disk::make(&pair, kind) {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    pair.exchange_ids();
    for node in [&mut pair.primary, &mut pair.standby] {
        node.edit("preset = \"none\"", "preset = \"jenkins\"");
    }
    let seed = u64::from(std::process::id());
    note(&format!("the load's seed is {seed}"));
    make(&pair.bed.source(), HomeSize::default(), 79).unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    let load = Load::start(&pair.bed.source(), LoadOptions { seed, ..LoadOptions::default() }).unwrap();
    let mut dice = Dice::new(seed);
    let mut known = None;
    for cut in 0..cuts() {
        let floor = load.ledger();
        let waited = pair.ask(&pair.primary, &["wait", "--timeout", "120s"]);
        assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, pair.told());
        std::thread::sleep(Duration::from_millis(u64::try_from(dice.index(900)).unwrap()));
        known = known.max(acked(&pair));
        disk.cut();
        // Nothing more is sent, and nothing of what ran then goes on.
        pair.primary.daemon().signal(Signal::STOP);
        pair.standby.kill();
        disk.unmount(&[]);
        disk.mount().unwrap();
        pair.start_standby();
        let shown = shown_whole(&mut pair, known);
        note(&format!("{kind}, cut {cut}: {known:?} was acked, it shows {shown:?}"));
        judge(&pair, &floor);
        pair.primary.daemon().signal(Signal::CONT);
        pair.until_streaming();
    }
    assert!(!load.has_failed());
    load.stop().unwrap();
    pair.converge();
    pair.assert_verified(&pair.primary);
    pair.primary.stop();
    pair.standby.stop();
    drop(disk);
}

/// The kernel finds an error in the file system of a running standby, and makes it read-only, as it does on most machines.
#[test]
fn a_disk_that_the_kernel_makes_read_only_stops_the_standby_which_says_so_until_it_is_mounted_again() {
    let test = "a disk that the kernel makes read-only";
    if let Some(why) = lacks("ext4") {
        return skip(test, &why);
    }
    let mut pair = Pair::trusting();
    fs::remove_dir_all(pair.state(&pair.standby)).ok();
    let disk = match Disk::make(&pair, "ext4") {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    pair.exchange_ids();
    let at = disk.at.to_str().unwrap();
    run("mount", &["-o", "remount,errors=remount-ro", at]).unwrap();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let device = mounts.lines().find(|line| line.split(' ').nth(1) == Some(at)).and_then(|line| line.split(' ').next());
    let name = device.unwrap().trim_start_matches("/dev/").to_owned();
    fs::write(pair.bed.src("before"), "before").unwrap();
    pair.start_primary();
    pair.start_standby();
    pair.until_streaming();
    pair.converge();
    let known = acked(&pair);
    if fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").is_err() {
        return skip(test, "this kernel makes no errors in ext4");
    }
    fs::write(pair.bed.src("after"), "after").unwrap();
    pair.until("the standby says so", |pair| {
        let status = pair.status(&pair.standby);
        // The words are the kernel's: of a journal that was aborted it says the one or the other.
        let says = |word: &str| status["alarms"].to_string().contains(word);
        status["state"] == "stuck" && (says("Read-only file system") || says("Input/output error"))
    });
    assert!(!pair.bed.dst("after").exists());
    // Nothing is sent until it was looked at.
    pair.primary.daemon().signal(Signal::STOP);
    pair.standby.stop();
    disk.unmount(&[]);
    disk.mount().unwrap();
    pair.start_standby();
    let shown = shown_whole(&mut pair, known);
    note(&format!("{known:?} was acked, it shows {shown:?}"));
    pair.primary.daemon().signal(Signal::CONT);
    pair.until_streaming();
    pair.converge();
    pair.primary.stop();
    pair.standby.stop();
    drop(disk);
}

fn judge(pair: &Pair, floor: &Ledger) {
    let replica = pair.bed.destination();
    let found = [check(&replica, Promise::Whole), check_age(&replica, floor, Promise::Whole)].concat();
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}\n{}", pair.told());
}

#[test]
fn a_power_cut_of_ext4_leaves_a_whole_generation_none_older_than_was_acked() {
    cut_power_on("ext4", "a_power_cut_of_ext4_leaves_a_whole_generation_none_older_than_was_acked");
}

#[test]
fn a_power_cut_of_xfs_leaves_a_whole_generation_none_older_than_was_acked() {
    cut_power_on("xfs", "a_power_cut_of_xfs_leaves_a_whole_generation_none_older_than_was_acked");
}
