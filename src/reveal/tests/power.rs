//! Power cuts between the steps of a reveal, on real file systems (G1, G2): ext4 and XFS on a loop device, stopped by the shutdown ioctl without a
//! flush of their logs, so that what was not synced is lost in whatever order the file system had it. The recovery is cut as well, twice.
//!
//! As root, with `xfs_io`; else the test says that it is skipped. `HOTSPARE_POWER_CUTS` is how many steps are cut at on each file system: 6 if it
//! is not set, spread over all of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::faulty::Faulty;
use super::interrupt::{furnish, rearrange};
use super::snapshot::differences;
use super::*;

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {said}")) }
}

/// A file system in a file.
struct Disk {
    directory: TempDir,
}

impl Disk {
    /// Makes it; `Err` says what this machine lacks.
    fn make(kind: &str) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root mounts file systems".to_owned());
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("at")).unwrap();
        let disk = Self { directory };
        std::fs::File::create(disk.image()).unwrap().set_len(400 << 20).unwrap();
        run("xfs_io", &["-V"])?;
        run(&format!("mkfs.{kind}"), &["-q", disk.image().to_str().unwrap()])?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn at(&self) -> PathBuf {
        self.directory.path().join("at")
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", self.image().to_str().unwrap(), self.at().to_str().unwrap()])
    }

    /// Nothing more reaches the disk, not even its own log; then whoever had it open has let it go, and it is mounted again.
    fn cut(&self, let_go: impl FnOnce()) {
        run("xfs_io", &["-x", "-c", "shutdown", self.at().to_str().unwrap()]).unwrap();
        let_go();
        // A process that another test starts holds our descriptors between its fork and its exec.
        let unmounted = (0..200).any(|_| {
            let done = run("umount", &[self.at().to_str().unwrap()]).is_ok();
            if !done {
                std::thread::sleep(Duration::from_millis(20));
            }
            done
        });
        assert!(unmounted, "{} is in use", self.at().display());
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", self.at().to_str().unwrap()]).ok();
    }
}

/// Two generations acked and not revealed, the first of every kind of change; the power goes after so many steps of its reveal, and again, twice,
/// while the replica is opened. True if the reveal has more steps.
fn cut_after(disk: &Disk, changes: usize, dice: &mut Dice) -> bool {
    let ground = Ground::within(&disk.at());
    furnish(&ground.source());
    let mut replica = ground.open();
    let mut primary = Primary::new(&ground.source(), &ground.state(), replica.tree().root());
    take(&mut replica, &primary.generation(), &mut Dice::new(1)).unwrap();
    rearrange(&ground.source());
    ack(&mut replica, &primary.generation(), &mut Dice::new(2)).unwrap();
    std::fs::write(ground.source().join("fresh"), "and once more").unwrap();
    std::fs::rename(ground.source().join("jobs"), ground.source().join("jobs.2")).unwrap();
    ack(&mut replica, &primary.generation(), &mut Dice::new(3)).unwrap();
    let (after, standing) = (ground.look_at_source(), replica.standing());
    let has_more = replica.steps(&Faulty::after(replica.root(), changes)).is_err();
    disk.cut(|| drop((replica, primary)));
    for _ in 0..2 {
        let wait = Duration::from_micros(u64::try_from(dice.index(30_000)).unwrap());
        std::thread::scope(|scope| {
            // Whether it comes to its end, or finds the disk gone, it lets everything go.
            let opening = scope.spawn(|| ground.try_open().map(drop));
            std::thread::sleep(wait);
            disk.cut(|| drop(opening.join()));
        });
    }
    let label = format!("after {changes} steps");
    let (replica, opening) = ground.try_open().unwrap_or_else(|error| panic!("{label}: {error:?}"));
    assert!(matches!(opening, Opening::Recovered(_)), "{label}: {opening:?}");
    assert_eq!(differences(&after, &ground.look()), Vec::<String>::new(), "{label}");
    assert_eq!((replica.standing(), ground.litter()), (standing, Vec::new()), "{label}");
    has_more
}

fn cut_everywhere(kind: &str, test: &str) {
    let disk = match Disk::make(kind) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: {test}: {why}"),
    };
    let cuts: usize = std::env::var("HOTSPARE_POWER_CUTS").map_or(6, |text| text.parse().unwrap());
    let seed = u64::from(std::process::id());
    println!("the seed is {seed}");
    let mut dice = Dice::new(seed);
    // The reveal has about ninety steps.
    let stride = (90 / cuts.max(1)).max(1);
    let mut changes = dice.index(stride);
    while cut_after(&disk, changes, &mut dice) {
        changes += stride;
    }
    assert!(changes > 40, "only {changes} steps?");
}

#[test]
fn a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_ext4() {
    cut_everywhere("ext4", "a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_ext4");
}

#[test]
fn a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_xfs() {
    cut_everywhere("xfs", "a_reveal_and_its_recovery_survive_power_cuts_at_any_step_on_xfs");
}
