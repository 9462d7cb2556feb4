//! A bed for tests that run the program as people do: a source, a destination, the program, and comparators that are not its own.

#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod build;
pub(crate) mod compare;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod proxy;
pub(crate) mod whole;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use compare::{Snapshot, differences};
use tempfile::TempDir;

/// After this long a program that should have ended hangs. No test passes or fails by anything finer.
const HANGS_AFTER: Duration = Duration::from_secs(240);
/// After this long a live copy that is not equal will not be.
const SETTLES_WITHIN: Duration = Duration::from_secs(180);

/// An ordinary user: nobody.
pub(crate) const USER: u32 = 65_534;

/// What the kernel says of a process's memory, in bytes: `VmHWM`, the most that was resident, or any other line of its status.
pub(crate) fn memory_of(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The most memory that a process had, the program's own pages apart, in MiB.
pub(crate) fn peak_mib(pid: u32) -> u64 {
    memory_of(pid, "VmHWM").saturating_sub(memory_of(pid, "RssFile")).div_ceil(1 << 20)
}

/// A source and a destination of their own, removed in the end.
pub(crate) struct Bed {
    directory: TempDir,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bed {
    /// A bed with an empty source and no destination yet.
    pub(crate) fn new() -> Self {
        let bed = Self { directory: tempfile::Builder::new().prefix("hotspare-test-").tempdir().unwrap() };
        std::fs::create_dir(bed.source()).unwrap();
        std::fs::create_dir(bed.path("user")).unwrap();
        bed
    }

    /// A path beside source and destination.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn destination(&self) -> PathBuf {
        self.path("destination")
    }

    /// A path in the source.
    pub(crate) fn src(&self, path: impl AsRef<Path>) -> PathBuf {
        self.source().join(path)
    }

    /// A path in the destination.
    pub(crate) fn dst(&self, path: impl AsRef<Path>) -> PathBuf {
        self.destination().join(path)
    }

    /// `hotspare` with nothing of the person's own environment; another build of it where `HOTSPARE_TEST_PROGRAM` says.
    pub(crate) fn program(&self) -> Command {
        let built = || env!("CARGO_BIN_EXE_hotspare").into();
        let mut command = Command::new(std::env::var_os("HOTSPARE_TEST_PROGRAM").unwrap_or_else(built));
        for (name, _) in std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("HOTSPARE_") || name.starts_with("XDG_")
        }) {
            command.env_remove(name);
        }
        command.env("HOME", self.path("user")).stdin(Stdio::null());
        command
    }

    /// `hotspare mirror ARGS SRC DST`, not started.
    pub(crate) fn mirror(&self, args: &[&str]) -> Command {
        self.mirror_of(args, &self.source(), &self.destination())
    }

    /// The same between any two directories.
    pub(crate) fn mirror_of(&self, args: &[&str], source: &Path, destination: &Path) -> Command {
        let mut command = self.program();
        command.arg("mirror").args(args).arg(source).arg(destination);
        command
    }

    /// `hotspare mirror --once SRC DST`, which must succeed; both sides are equal then.
    pub(crate) fn mirror_once(&self) -> Ended {
        let ended = finish(self.mirror(&["--once"]));
        assert_eq!(ended.code, Some(0), "mirror --once: {}", ended.stderr);
        ended
    }

    /// Mirrors once and compares with both comparators.
    pub(crate) fn mirror_once_and_compare(&self) {
        self.mirror_once();
        self.assert_equal();
    }

    /// Both sides must be equal, by our comparator and by rsync.
    pub(crate) fn assert_equal(&self) {
        let found = self.differences().unwrap();
        assert!(found.is_empty(), "{} differences:\n{}", found.len(), head(&found));
        self.assert_rsync_agrees();
    }

    /// Every difference of the two sides; an error while one is changing under our hands.
    pub(crate) fn differences(&self) -> Result<Vec<String>, String> {
        Ok(differences(&Snapshot::of(&self.source())?, &Snapshot::of(&self.destination())?))
    }

    /// rsync's dry run must print nothing.
    pub(crate) fn assert_rsync_agrees(&self) {
        if !has_tool("rsync") {
            return skip("the comparison by rsync", "there is no rsync");
        }
        // With a slash at the end: the content, not the directory.
        let slashed = |path: PathBuf| path.join("");
        let mut rsync = Command::new("rsync");
        rsync.args(["-aHAXnic", "--delete", "--exclude=/.hotspare", "--no-devices", "--no-specials"]);
        let output = rsync.arg(slashed(self.source())).arg(slashed(self.destination())).output().unwrap();
        // Of special files rsync says that it leaves them out.
        let text = String::from_utf8_lossy(&output.stdout);
        let said: Vec<&str> = text.lines().filter(|line| !line.starts_with("skipping non-regular file")).collect();
        assert!(output.status.success(), "rsync: {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.is_empty(), "rsync would change:\n{}", said.join("\n"));
    }

    /// Waits until both sides are equal by our comparator; says what differs if they never are.
    pub(crate) fn wait_until_equal(&self, running: &mut Running) {
        let begin = Instant::now();
        loop {
            if let Some(code) = running.ended() {
                panic!("the program ended ({code:?}): {}", running.stderr());
            }
            let found = self.differences();
            if matches!(&found, Ok(found) if found.is_empty()) {
                return;
            }
            if begin.elapsed() > SETTLES_WITHIN {
                let found = found.unwrap_or_else(|error| vec![error]);
                panic!("{} differences remain:\n{}\n{}", found.len(), head(&found), running.stderr());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes the source, an empty destination and a home directory for [`USER`].
    pub(crate) fn give_to_user(&self) {
        std::fs::create_dir(self.destination()).unwrap();
        build::mode(self.directory.path(), 0o755);
        for path in [self.source(), self.destination(), self.path("user")] {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
        }
    }

    /// `command`, to be run by [`USER`] without further groups.
    pub(crate) fn as_user(&self, mut command: Command) -> Command {
        use std::os::unix::process::CommandExt;
        command.uid(USER).gid(USER);
        command
    }

    /// Starts `command`; what it says is kept in a file.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let log = tempfile::NamedTempFile::new_in(self.directory.path()).unwrap();
        let output = log.reopen().unwrap();
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Running { child, log }
    }
}

impl Drop for Bed {
    /// Directories without permissions would stay.
    fn drop(&mut self) {
        build::unlock(self.directory.path());
    }
}

/// A program that is running; killed when it is let go.
pub(crate) struct Running {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Running {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal by number: 9, 15.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code, if it ended; `Some(None)` if by a signal.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(begin.elapsed() < HANGS_AFTER, "the program does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All that it said.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Runs `command` to its end; one that hangs is killed and is a failure.
pub(crate) fn finish(mut command: Command) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let output = std::thread::scope(|scope| {
        let (done, hung) = std::sync::mpsc::sync_channel::<()>(1);
        let watchdog = scope.spawn(move || {
            let has_hung = hung.recv_timeout(HANGS_AFTER) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if has_hung {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            has_hung
        });
        let output = read_all(&mut child);
        drop(done);
        assert!(!watchdog.join().unwrap(), "the program hangs: {command:?}\n{output:?}");
        output
    });
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn read_all(child: &mut Child) -> Output {
    use std::io::Read;
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stdout = Vec::new();
    out.read_to_end(&mut stdout).unwrap();
    let stderr = reader.join().unwrap().unwrap();
    Output { status: child.wait().unwrap(), stdout, stderr }
}

/// True if `tool` can be run.
pub(crate) fn has_tool(tool: &str) -> bool {
    Command::new(tool).arg("--version").stdin(Stdio::null()).output().is_ok()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says by name that a test does not run here.
pub(crate) fn skip(test: &str, reason: &str) {
    note(&format!("skipped: {test}: {reason}"));
}

fn head(lines: &[String]) -> String {
    let more = if lines.len() > 40 { "\n..." } else { "" };
    format!("{}{more}", lines[..lines.len().min(40)].join("\n"))
}

/// Says something to whoever reads the test's output.
#[expect(clippy::print_stderr, reason = "that is where the output of tests goes")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
