//! Those that copy a home: hotspare, and what it replaces.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// What copies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Hotspare,
    Loop,
    Lsyncd,
    Syncthing,
}

impl Program {
    pub(crate) const ALL: [Self; 4] = [Self::Hotspare, Self::Loop, Self::Lsyncd, Self::Syncthing];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hotspare => "hotspare run",
            Self::Loop => "inotifywait and rsync",
            Self::Lsyncd => "lsyncd",
            Self::Syncthing => "Syncthing",
        }
    }

    /// The first tool that it needs and is not there.
    pub(crate) fn lacks(self) -> Option<&'static str> {
        let needs: &[&str] = match self {
            Self::Hotspare => &[],
            Self::Loop => &["inotifywait", "rsync"],
            Self::Lsyncd => &["lsyncd", "rsync"],
            Self::Syncthing => &["syncthing"],
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = |tool: &&&str| std::env::split_paths(&path).any(|directory| directory.join(tool).exists());
        needs.iter().find(|tool| !is_there(tool)).copied()
    }
}

/// A copier at work; all its processes end with it, and with this program, whatever ends that.
pub(crate) struct Copier {
    program: Program,
    work: PathBuf,
    processes: Vec<Child>,
    leashes: Vec<Child>,
}

/// A copy that stands still, until this is dropped.
pub(crate) enum Still {
    Stopped(Vec<Pid>),
    Held(Child),
}

impl Copier {
    /// Has `program` copy `home` to the empty directory `copy`, now and from now on. `work` is an empty directory for its own files.
    pub(crate) fn start(program: Program, home: &Path, copy: &Path, work: &Path) -> Result<Self> {
        let mut copier = Self { program, work: work.to_owned(), processes: Vec::new(), leashes: Vec::new() };
        match program {
            Program::Hotspare => copier.hotspare(home, copy)?,
            Program::Loop => {
                let events = "modify,create,delete,move,attrib,close_write";
                let rsync = "rsync -a --delete --exclude='*-atomic*tmp' --exclude='builds/.[0-9]*'";
                let [home, copy] = [home.join(""), copy.join("")];
                let (home, copy) = (home.display(), copy.display());
                let script = format!(
                    "{rsync} {home} {copy}; while inotifywait -qq -r -e {events} {home}; do {rsync} {home} {copy}; done"
                );
                copier.spawn(Command::new("sh").args(["-c", &script]))?;
            }
            Program::Lsyncd => {
                let config = format!(
                    "settings {{ nodaemon = true }}\nsync {{ default.rsync, source = {home:?}, target = {copy:?}, delay = 1, \
                     exclude = {{ '*-atomic*tmp', 'builds/.[0-9]*' }}, rsync = {{ archive = true }} }}\n"
                );
                fs::write(work.join("lsyncd.lua"), config)?;
                copier.spawn(Command::new("lsyncd").arg(work.join("lsyncd.lua")))?;
            }
            Program::Syncthing => copier.syncthing(home, copy)?,
        }
        Ok(copier)
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.work.join("log"))?;
        // A group of its own, by which what it starts is found.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let process = command.spawn().with_context(|| format!("{command:?}"))?;
        self.leashes.push(leash(process.id())?);
        self.processes.push(process);
        Ok(())
    }

    fn hotspare(&mut self, home: &Path, copy: &Path) -> Result<()> {
        let ports = [free_port()?, free_port()?];
        let nodes = [("primary", home), ("standby", copy)];
        for (number, (role, home)) in nodes.into_iter().enumerate() {
            let (other, state) = (nodes[1 - number].0, self.work.join(role));
            let (port, peer) = (ports[number], ports[1 - number]);
            let config = format!(
                "[node]\nname = {role:?}\nhome = {home:?}\nstate = {state:?}\ninitial_role = {role:?}\n\
                 listen = \"127.0.0.1:{port}\"\n[[peer]]\nname = {other:?}\naddress = \"127.0.0.1:{peer}\"\n\
                 [replicate]\npreset = \"jenkins\"\n"
            );
            fs::write(self.config(role), config)?;
        }
        for (role, other) in [("primary", "standby"), ("standby", "primary")] {
            let id = output(Command::new(env!("CARGO_BIN_EXE_hotspare")).arg("id").arg("-c").arg(self.config(other)))?;
            output(&mut self.ours(role, &["trust", id.trim(), "--name", other]))?;
        }
        for role in ["primary", "standby"] {
            let mut command = self.ours(role, &["run"]);
            self.spawn(command.env("HOTSPARE_LOG", "info,hotspare=debug"))?;
        }
        Ok(())
    }

    fn config(&self, role: &str) -> PathBuf {
        self.work.join(format!("{role}.toml"))
    }

    fn ours(&self, role: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
        command.args(args).arg("-c").arg(self.config(role));
        command
    }

    /// Two devices that know each other and nobody else.
    fn syncthing(&mut self, home: &Path, copy: &Path) -> Result<()> {
        let ports = [free_port()?, free_port()?];
        let sides = [("sendonly", home), ("receiveonly", copy)];
        let mut ids = Vec::new();
        for (kind, _) in sides {
            let own = self.work.join(kind);
            output(Command::new("syncthing").arg("generate").arg(format!("--home={}", own.display())))?;
            let id = output(Command::new("syncthing").arg(format!("--home={}", own.display())).arg("--device-id"))?;
            ids.push(id.trim().to_owned());
        }
        let devices: Vec<String> = (0..2)
            .map(|side| {
                let (id, port) = (&ids[side], ports[side]);
                format!("<device id=\"{id}\" name=\"{side}\"><address>tcp://127.0.0.1:{port}</address></device>")
            })
            .collect();
        let shared: String = ids.iter().map(|id| format!("<device id=\"{id}\"></device>")).collect();
        for (side, (kind, path)) in sides.into_iter().enumerate() {
            fs::create_dir(path.join(".stfolder"))?;
            fs::write(path.join(".stignore"), "*-atomic*tmp\n.[0-9]*\n")?;
            let config = format!(
                "<configuration version=\"36\"><folder id=\"home\" path=\"{}\" type=\"{kind}\" rescanIntervalS=\"60\" \
                 fsWatcherEnabled=\"true\" fsWatcherDelayS=\"1\">{shared}<markerName>.stfolder</markerName></folder>{}\
                 <gui enabled=\"false\"></gui><options><listenAddress>tcp://127.0.0.1:{}</listenAddress>\
                 <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>\
                 <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>\
                 <urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>\
                 <crashReportingEnabled>false</crashReportingEnabled></options></configuration>",
                path.display(),
                devices.concat(),
                ports[side],
            );
            let own = self.work.join(kind);
            fs::write(own.join("config.xml"), config)?;
            let mut command = Command::new("syncthing");
            command.args(["--no-browser", "--no-restart"]).arg(format!("--home={}", own.display()));
            self.spawn(command.env("STNOUPGRADE", "1"))?;
        }
        Ok(())
    }

    /// Makes the copy stand still.
    pub(crate) fn stand_still(&self) -> Result<Still> {
        if self.program != Program::Hotspare {
            let pids = self.pids()?;
            pids.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap_or_default());
            return Ok(Still::Stopped(pids));
        }
        let began = self.work.join("held");
        fs::remove_file(&began).unwrap_or_default();
        let mut command = self.ours("standby", &["hold"]);
        command.args(["--", "sh", "-c", &format!("touch '{}'; cat", began.display())]).stdin(Stdio::piped());
        let mut held = command.spawn()?;
        let begun = Instant::now();
        while !began.exists() {
            ensure!(begun.elapsed() < Duration::from_secs(60), "the replica is not held");
            if let Some(status) = held.try_wait()? {
                bail!("the replica cannot be held: {status}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Still::Held(held))
    }

    /// True if the copy that stands still is said not to be of one instant.
    pub(crate) fn admits_more(&self) -> Result<bool> {
        if self.program != Program::Hotspare {
            return Ok(false);
        }
        let status: serde_json::Value =
            serde_json::from_str(&output(&mut self.ours("standby", &["status", "--json"]))?)?;
        // The status tells the quality of what was acked last, which may not be shown yet.
        let made = format!(" generation position={} ", status["position"].as_str().unwrap_or_default());
        let log = fs::read_to_string(self.work.join("log"))?;
        Ok(!log.lines().any(|line| line.contains(&made) && line.contains("quality=consistent")))
    }

    /// All its processes, with those that they started.
    fn pids(&self) -> Result<Vec<Pid>> {
        let groups: Vec<String> = self.processes.iter().map(|child| child.id().to_string()).collect();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            // After the name in brackets: state, parent, group.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let group = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(2));
            if group.is_some_and(|group| groups.iter().any(|own| own == group)) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        for pid in self.pids().unwrap_or_default() {
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        for process in &mut self.processes {
            process.wait().map(drop).unwrap_or_default();
        }
        for leash in &mut self.leashes {
            leash.kill().and_then(|()| leash.wait()).map(drop).unwrap_or_default();
        }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        match self {
            Self::Stopped(pids) => pids.iter().for_each(|pid| kill_process(*pid, Signal::CONT).unwrap_or_default()),
            Self::Held(held) => {
                drop(held.stdin.take());
                held.wait().map(drop).unwrap_or_default();
            }
        }
    }
}

/// A process that ends the group `group` when this program ends, be it by SIGKILL: its input ends then. One that is stopped does not hear SIGTERM.
fn leash(group: u32) -> Result<Child> {
    let script = format!("read -r line; kill -TERM -{group}; sleep 2; kill -KILL -{group}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("sh")
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn output(command: &mut Command) -> Result<String> {
    let ended = command.stdin(Stdio::null()).output()?;
    ensure!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
