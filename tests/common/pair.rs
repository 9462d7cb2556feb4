//! Two daemons on one machine, made from the example configurations: `config/primary.toml` and `config/standby.toml`, moved to
//! directories and ports of the test's own. The primary's home is the bed's source, the replica its destination.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hotspare::jenkins::checks::{Promise, check_age};
use hotspare::jenkins::load::Load;
use rustix::process::Signal;
use serde_json::Value;

use super::proxy::Proxy;
use super::{Bed, Ended, Running, USER, build, finish};

/// After this long what was waited for will not come. No test passes or fails by anything finer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One node: its configuration, and its daemon while that runs.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    /// The example it is made from, with the test's own paths and ports.
    pub(crate) text: String,
    /// Environment of every command.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) port: u16,
    /// Run it, and all its commands, as [`USER`].
    pub(crate) is_user: bool,
    pub(crate) daemon: Option<Running>,
}

/// Both nodes and their directories.
pub(crate) struct Pair {
    pub(crate) bed: Bed,
    pub(crate) primary: Node,
    pub(crate) standby: Node,
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Pair {
    /// Two nodes that are configured and know nobody yet; nothing runs.
    pub(crate) fn new() -> Self {
        let bed = Bed::new();
        let (first, second) = (free_port(), free_port());
        let example = |name: &str| {
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
            let text = std::fs::read_to_string(file).unwrap();
            text.replace("/tmp/hotspare-demo/a/home", bed.source().to_str().unwrap())
                .replace("/tmp/hotspare-demo/b/home", bed.destination().to_str().unwrap())
                .replace("/tmp/hotspare-demo/a/state", bed.path("jenkins-a").to_str().unwrap())
                .replace("/tmp/hotspare-demo/b/state", bed.path("jenkins-b").to_str().unwrap())
                .replace("127.0.0.1:7420", &format!("127.0.0.1:{first}"))
                .replace("127.0.0.1:7421", &format!("127.0.0.1:{second}"))
                .replace("preset = \"jenkins\"", "preset = \"none\"")
        };
        let node = |name, file, port| {
            let text = example(file);
            Node { name, text, env: Vec::new(), port, is_user: false, daemon: None }
        };
        let primary = node("jenkins-a", "primary.toml", first);
        let standby = node("jenkins-b", "standby.toml", second);
        Self { bed, primary, standby }
    }

    /// Two nodes that trust each other; nothing runs.
    pub(crate) fn trusting() -> Self {
        let pair = Self::new();
        pair.exchange_ids();
        pair
    }

    /// Two nodes that run.
    pub(crate) fn running() -> Self {
        let mut pair = Self::trusting();
        pair.start_primary();
        pair.start_standby();
        pair
    }

    /// Has the standby dial the primary through a proxy.
    pub(crate) fn proxied(&mut self, seed: u64) -> Proxy {
        let proxy = Proxy::to(self.primary.port, seed);
        self.standby.dial_at(&[format!("127.0.0.1:{}", proxy.port)]);
        proxy
    }

    /// One more standby, with a replica and a state of its own, that nobody knows yet; it does not run.
    pub(crate) fn another(&self, name: &'static str) -> Node {
        let port = free_port();
        let text = self.standby.text.clone();
        let text = text.replace("name = \"jenkins-b\"", &format!("name = {name:?}"));
        let text = text.replace(self.bed.destination().to_str().unwrap(), self.replica_of(name).to_str().unwrap());
        let text = text.replace(self.bed.path("jenkins-b").to_str().unwrap(), self.bed.path(name).to_str().unwrap());
        let text = text.replace(
            &format!("listen = \"127.0.0.1:{}\"", self.standby.port),
            &format!("listen = \"127.0.0.1:{port}\""),
        );
        Node { name, text, env: Vec::new(), port, is_user: false, daemon: None }
    }

    /// Where the replica of a further standby lies.
    pub(crate) fn replica_of(&self, name: &str) -> PathBuf {
        self.bed.path(format!("{name}-home"))
    }

    /// Lets the primary and a further standby trust each other.
    pub(crate) fn introduce(&self, other: &Node) {
        for (one, other) in [(&self.primary, other), (other, &self.primary)] {
            let trusted = self.ask(one, &["trust", &self.id(other), "--name", other.name]);
            assert_eq!(trusted.code, Some(0), "{}", trusted.stderr);
        }
    }

    /// `hotspare id` on each, `hotspare trust` on the other.
    pub(crate) fn exchange_ids(&self) {
        self.introduce(&self.standby);
    }

    /// What `hotspare id` prints.
    pub(crate) fn id(&self, node: &Node) -> String {
        let id = self.ask(node, &["id"]);
        assert_eq!(id.code, Some(0), "{}", id.stderr);
        id.stdout.trim().to_owned()
    }

    /// Where a node's configuration lies. It is written anew before every command.
    pub(crate) fn config(&self, node: &Node) -> PathBuf {
        let file = self.bed.path(format!("{}.toml", node.name));
        if std::fs::read_to_string(&file).ok().as_deref() != Some(&node.text) {
            build::file(&file, &node.text);
        }
        file
    }

    /// Where a node's state lies.
    pub(crate) fn state(&self, node: &Node) -> PathBuf {
        self.bed.path(node.name)
    }

    /// `hotspare ARGS -c CONFIG` of a node, not started.
    pub(crate) fn command(&self, node: &Node, args: &[&str]) -> Command {
        let mut command = self.bed.program();
        command.args(args).arg("-c").arg(self.config(node)).env("HOTSPARE_LOG", "info,hotspare=debug");
        command.envs(node.env.iter().map(|(name, value)| (*name, value)));
        if node.is_user { self.bed.as_user(command) } else { command }
    }

    /// Runs a node's command to its end.
    pub(crate) fn ask(&self, node: &Node, args: &[&str]) -> Ended {
        finish(self.command(node, args))
    }

    /// Starts `hotspare run`, and waits until it answers.
    pub(crate) fn start_primary(&mut self) {
        self.primary.daemon = Some(self.spawn(&self.primary));
        self.until_answers(false);
    }

    /// The same for the standby.
    pub(crate) fn start_standby(&mut self) {
        self.standby.daemon = Some(self.spawn(&self.standby));
        self.until_answers(true);
    }

    /// `hotspare run`, of which nothing is awaited.
    pub(crate) fn spawn(&self, node: &Node) -> Running {
        self.bed.start(self.command(node, &["run"]))
    }

    fn until_answers(&mut self, is_standby: bool) {
        self.until("the daemon answers", |pair| {
            let node = if is_standby { &pair.standby } else { &pair.primary };
            pair.ask(node, &["status", "--json"]).code == Some(0)
        });
    }

    /// Waits until `is_so`. A daemon that ends meanwhile is a failure, as is one that takes for ever.
    pub(crate) fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !is_so(self) {
            for node in [&mut self.primary, &mut self.standby] {
                if let Some(daemon) = &mut node.daemon {
                    let ended = daemon.ended();
                    assert_eq!(ended, None, "{} ended before {what}:\n{}", node.name, daemon.stderr());
                }
            }
            assert!(begin.elapsed() < PATIENCE, "never: {what}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// What both daemons said, and say, for whoever reads of a failure.
    pub(crate) fn told(&self) -> String {
        let mut told = String::new();
        for node in [&self.primary, &self.standby] {
            let log = node.daemon.as_ref().map_or_else(|| "(does not run)".to_owned(), Running::stderr);
            let tail: Vec<&str> = log.lines().collect();
            told += &format!("--- {}\n{}\n", node.name, tail[tail.len().saturating_sub(60)..].join("\n"));
            if node.daemon.is_some() {
                told += &self.ask(node, &["status"]).stdout;
            }
        }
        told
    }

    /// `status --json`.
    pub(crate) fn status(&self, node: &Node) -> Value {
        let ended = self.ask(node, &["status", "--json"]);
        assert_eq!(ended.code, Some(0), "{}\n{}", ended.stderr, self.told());
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Waits until the standby says that it streams and could take over, and the primary that it streams to it.
    pub(crate) fn until_streaming(&mut self) {
        self.until("both stream", |pair| {
            let (primary, standby) = (pair.status(&pair.primary), pair.status(&pair.standby));
            primary["state"] == "streaming" && standby["state"] == "streaming" && standby["promotable"]["yes"] == true
        });
    }

    /// Has the standby's replica held, until [`Pair::let_go`]; `args` are further options.
    pub(crate) fn hold(&mut self, args: &[&str]) -> Running {
        let (began, end) = (self.bed.path("began"), self.bed.path("end"));
        std::fs::remove_file(&began).ok();
        std::fs::remove_file(&end).ok();
        let script =
            format!("touch '{}'; while [ ! -e '{}' ]; do sleep 0.05; done; exit 7", began.display(), end.display());
        // Options of the configuration come before the command.
        let mut command = self.command(&self.standby, &[&["hold"], args].concat());
        command.args(["--", "sh", "-c", &script]);
        let hold = self.bed.start(command);
        self.until("the command began", |pair| pair.bed.path("began").exists());
        hold
    }

    /// Ends what `hold` runs: its exit code is 7, which the command passes on.
    pub(crate) fn let_go(&self, hold: &mut Running) {
        std::fs::write(self.bed.path("end"), "").unwrap();
        assert_eq!(hold.wait(), Some(7), "its exit code is passed on: {}", hold.stderr());
    }

    /// What `load` wrote before `hotspare wait` returns is in the replica, which is held meanwhile: what is acked is shown before that begins.
    pub(crate) fn assert_promised(&mut self, load: &Load) {
        let done = load.ledger();
        let waited = self.ask(&self.primary, &["wait", "--timeout", "120s"]);
        assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, self.told());
        let mut hold = self.hold(&[]);
        assert_eq!(check_age(&self.bed.destination(), &done, Promise::Whole), [], "{}", self.told());
        self.let_go(&mut hold);
    }

    /// `hotspare wait`, after which the two sides must be equal by both comparators. Nothing may be written meanwhile.
    ///
    /// What is acked is shown a moment later: the comparison is repeated until then.
    pub(crate) fn converge(&mut self) {
        let waited = self.ask(&self.primary, &["wait", "--timeout", "120s"]);
        assert_eq!(waited.code, Some(0), "{}{}\n{}", waited.stdout, waited.stderr, self.told());
        self.until_equal();
        self.bed.assert_rsync_agrees();
    }

    /// `hotspare wait`, again and again: for homes so large that a single command would be taken for one that hangs. Hours, at most.
    pub(crate) fn wait_long(&self) {
        for _ in 0..240 {
            let waited = self.ask(&self.primary, &["wait", "--timeout", "60s"]);
            if waited.code == Some(0) {
                return;
            }
            assert_eq!(waited.code, Some(1), "{}{}\n{}", waited.stdout, waited.stderr, self.told());
        }
        panic!("it is never acked\n{}", self.told());
    }

    /// Waits until the two sides are equal by the comparator; says what differs if they never are.
    pub(crate) fn until_equal(&mut self) {
        let mut last = Vec::new();
        let begin = Instant::now();
        loop {
            match self.bed.differences() {
                Ok(found) if found.is_empty() => return,
                Ok(found) => last = found,
                Err(error) => last.push(error),
            }
            let shown = last[..last.len().min(40)].join("\n");
            assert!(begin.elapsed() < PATIENCE, "{} differences remain:\n{shown}\n{}", last.len(), self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `hotspare verify` on a node must say equal.
    pub(crate) fn assert_verified(&self, node: &Node) {
        let verified = self.ask(node, &["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}\n{}", verified.stdout, verified.stderr, self.told());
        assert!(verified.stdout.contains("\nequal: "), "{}", verified.stdout);
    }

    /// Lets both nodes run as [`USER`], or one of them; their directories are made for that.
    pub(crate) fn give_to_user(&mut self, primary: bool, standby: bool) {
        self.bed.give_to_user();
        for (node, is_user) in [(&mut self.primary, primary), (&mut self.standby, standby)] {
            node.is_user = is_user;
            let state = self.bed.path(node.name);
            std::fs::create_dir(&state).unwrap();
            if is_user {
                std::os::unix::fs::chown(&state, Some(USER), Some(USER)).unwrap();
            }
        }
    }
}

impl Node {
    /// The daemon, which must have been started.
    pub(crate) fn daemon(&mut self) -> &mut Running {
        self.daemon.as_mut().unwrap()
    }

    /// What the daemon has logged.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().unwrap().stderr()
    }

    /// Ends the daemon with SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait(), Some(0), "{}", daemon.stderr());
        assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
    }

    /// Kills the daemon; what it had logged.
    pub(crate) fn kill(&mut self) -> String {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait(), None);
        daemon.stderr()
    }

    /// Has a standby dial the primary at these addresses.
    pub(crate) fn dial_at(&mut self, addresses: &[String]) {
        let line = self.text.lines().find(|line| line.starts_with("address = ")).unwrap().to_owned();
        self.edit(&line, &format!("address = {addresses:?}"));
    }

    /// Replaces something in the configuration that must be there.
    pub(crate) fn edit(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "no {from:?} in the example");
        self.text = self.text.replacen(from, to, 1);
    }
}
