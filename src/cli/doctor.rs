//! `doctor`: whether what a node needs is there, and how to mend what is not.

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use rustls_pki_types::UnixTime;

use super::exit::{Answer, Class, Failure};
use super::target::ConfigArgs;
use super::{output, run};
use crate::config::{Preset, Settings};
use crate::control::Client;
use crate::daemon::certificates::{Certificates, ENDS_SOON};
use crate::daemon::memory::load_trust;
use crate::fs::Root;
use crate::net::endpoint::{Endpoint, Limits, SOCKET_BUFFER_BYTES};
use crate::net::identity::Identity;
use crate::net::trust::TrustedPeers;
use crate::thought::filter::jenkins;
use crate::walk::Survey;
use crate::words::path::RelPath;

const EXAMPLES: &str = "\
Examples:
  hotspare doctor                    all checks
  hotspare doctor --filters          what is left out, with entries and bytes

Exit status: 0 all is well; 1 something should be mended; 2 the configuration is not valid, or the home cannot be read.";

/// Check what this node needs
///
/// Looks at the home, the limits of the system, space, and the peers, and says of each whether it will do and how to mend it. Reads
/// names and sizes only; changes nothing. The daemon may run or not.
///
/// With --filters it lists what is left out below the home, and warns where a pattern of [replicate] exclude leaves out what a Jenkins
/// home is not whole without.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Only list what is left out of the home, and warn of what should not be
    #[arg(long)]
    filters: bool,
}

/// How many patterns are listed: those that leave out most.
const PATTERNS_SHOWN: usize = 40;
/// Below this much free space a node cannot stage much.
const SPACE_BYTES: u64 = 1 << 30;
/// Fewer descriptors than this are too few for a large home.
const DESCRIPTORS: u64 = 4096;
/// How long a peer may take to say that it does not trust this node.
const OBJECTION: Duration = Duration::from_secs(1);

pub(super) fn main(args: &DoctorArgs) -> anyhow::Result<Answer> {
    let settings = args.config.load()?;
    let filter = run::filter(&settings)?;
    let home = settings.node.home.as_path();
    let unreadable = |error: crate::fs::FsError| {
        let text = format!("the home {} cannot be read: {}", home.display(), crate::daemon::explain(&error));
        Failure::new(Class::Usage, text).hint("run this as a user who may read all of it")
    };
    let root = Root::open(home).map_err(unreadable)?;
    let is_jenkins = settings.replicate.preset == Preset::Jenkins || looks_like_jenkins(&root);
    let is_preset = |pattern: &str| {
        settings.replicate.preset == Preset::Jenkins
            && jenkins::PATTERNS.contains(&pattern)
            && !settings.replicate.exclude.iter().any(|own| own == pattern)
    };
    let survey = Survey::of(&root, &filter, &|pattern| is_jenkins && !is_preset(pattern)).map_err(unreadable)?;
    if args.filters {
        output::say(&filters_text(home, &survey)?)?;
        return Ok(if survey.vital_count == 0 { Answer::Yes } else { Answer::No });
    }
    let mut checks = Checks::default();
    checks.system(&settings, &root, &survey);
    super::brief(async {
        checks.peers(&settings).await;
        Ok(Answer::Yes)
    })?;
    output::say(&checks.text)?;
    Ok(if checks.is_well { Answer::Yes } else { Answer::No })
}

fn looks_like_jenkins(root: &Root) -> bool {
    ["config.xml", "secrets", "jobs"].iter().all(|name| {
        let path = RelPath::parse(name.as_bytes());
        path.is_ok_and(|path| root.stat(&path).is_ok_and(|found| found.is_some()))
    })
}

fn filters_text(home: &Path, survey: &Survey) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut by_size: Vec<_> = survey.left_out.iter().collect();
    by_size.sort_by_key(|(_, left_out)| std::cmp::Reverse((left_out.total.bytes, left_out.total.entries)));
    if by_size.is_empty() {
        writeln!(text, "nothing is left out of {}", home.display())?;
    } else {
        writeln!(text, "left out of {}:", home.display())?;
        writeln!(text, "  {:>12}  {:>12}  pattern", "entries", "bytes")?;
    }
    for (pattern, left_out) in by_size.iter().take(PATTERNS_SHOWN) {
        let (entries, bytes) = (HumanCount(left_out.total.entries), HumanBytes(left_out.total.bytes));
        writeln!(text, "  {:>12}  {:>12}  {pattern}", entries.to_string(), bytes.to_string())?;
        for (path, tally) in &left_out.largest {
            writeln!(text, "{:32}{path}: {}, {}", "", HumanCount(tally.entries), HumanBytes(tally.bytes))?;
        }
    }
    if by_size.len() > PATTERNS_SHOWN {
        writeln!(text, "  ... and by {} more patterns", by_size.len() - PATTERNS_SHOWN)?;
    }
    let (entries, bytes) = (HumanCount(survey.replicated.entries), HumanBytes(survey.replicated.bytes));
    writeln!(text, "replicated: {entries} entries, {bytes}")?;
    if survey.unreadable > 0 {
        writeln!(text, "not looked at, because they cannot be read: {}", HumanCount(survey.unreadable))?;
    }
    vital_text(&mut text, survey)?;
    Ok(text)
}

fn vital_text(text: &mut String, survey: &Survey) -> fmt::Result {
    for vital in &survey.vital {
        let (path, what, pattern) = (&vital.path, vital.what, &vital.pattern);
        writeln!(
            text,
            "warning: exclude {pattern:?} leaves out {path}, and a Jenkins home is not whole without {what}"
        )?;
    }
    let more = survey.vital_count - survey.vital.len() as u64;
    if more > 0 {
        writeln!(text, "warning: ... and {} more such paths", HumanCount(more))?;
    }
    Ok(())
}

/// The checks made so far.
struct Checks {
    text: String,
    is_well: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { text: String::new(), is_well: true }
    }
}

impl Checks {
    /// Writes a line: what was looked at, what was found, and how to mend it if it will not do.
    fn note(&mut self, what: &str, found: &str, mend: Option<&str>) {
        self.is_well &= mend.is_none();
        let word = if mend.is_none() { "ok" } else { "MEND" };
        self.text += &format!("{word:<5} {what:<12} {found}\n");
        if let Some(mend) = mend {
            self.text += &format!("{:18} {mend}\n", "");
        }
    }

    /// What can be seen from here.
    fn system(&mut self, settings: &Settings, root: &Root, survey: &Survey) {
        let home = settings.node.home.display();
        let kind = root.filesystem().map_or_else(|_| "unknown".to_owned(), |kind| format!("{kind:?}").to_lowercase());
        let entries = HumanCount(survey.replicated.entries);
        let found = format!("{home} ({kind}), {entries} entries, {}", HumanBytes(survey.replicated.bytes));
        let mend = (survey.unreadable > 0).then(|| {
            format!(
                "{} of it cannot be read: run the daemon as a user who may, or change their modes",
                survey.unreadable
            )
        });
        self.note("home", &found, mend.as_deref());
        self.own_directory(root);
        self.state(&settings.node.state);
        self.certificates(settings);
        let mut text = String::new();
        let is_well = survey.vital_count == 0 && vital_text(&mut text, survey).is_ok();
        let found = format!("{} patterns leave something out", survey.left_out.len());
        let mend = (!is_well).then_some("run `hotspare doctor --filters`: what a Jenkins home needs is left out");
        self.note("filters", &found, mend);
        let needed = survey.directories + survey.directories / 4;
        self.at_least("watches", "/proc/sys/fs/inotify/max_user_watches", needed, &|least| {
            format!(
                "directories beyond are polled: `sysctl -w fs.inotify.max_user_watches={least}`, and in /etc/sysctl.d"
            )
        });
        for name in ["rmem_max", "wmem_max"] {
            let file = format!("/proc/sys/net/core/{name}");
            self.at_least(name, &file, SOCKET_BUFFER_BYTES as u64, &|least| {
                format!("packets get lost at high rates: `sysctl -w net.core.{name}={least}`, and in /etc/sysctl.d")
            });
        }
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let mend = (descriptors < DESCRIPTORS)
            .then(|| format!("`ulimit -n {DESCRIPTORS}`, or LimitNOFILE={DESCRIPTORS} in the service"));
        self.note("descriptors", &format!("{descriptors} (of this shell)"), mend.as_deref());
        if let Ok(space) = root.space() {
            let mend = (space.available_bytes < SPACE_BYTES)
                .then(|| format!("what arrives is staged beside the home: have {} free", HumanBytes(SPACE_BYTES)));
            self.note("space", &format!("{} free", HumanBytes(space.available_bytes)), mend.as_deref());
        }
    }

    /// `.hotspare` must be on the file system of the home, or nothing can be moved into place.
    fn own_directory(&mut self, root: &Root) {
        let device = |path: &RelPath| root.stat(path).ok().flatten().map(|stat| stat.inode.id.dev);
        let own = RelPath::parse(crate::words::path::RESERVED).ok().and_then(|path| device(&path));
        let is_there = own.is_some();
        let is_same = own.is_none_or(|own| Some(own) == device(&RelPath::root()));
        let found = if is_there { ".hotspare is there" } else { ".hotspare is made at the first start" };
        let mend = (!is_same).then_some("it is another file system than the home: unmount it");
        self.note("stage", found, mend);
    }

    fn state(&mut self, state: &Path) {
        use std::os::unix::fs::MetadataExt;
        let (found, mend) = match std::fs::metadata(state) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => {
                let mend = format!("others can look into it: `chmod 700 {}`", state.display());
                (format!("{} (mode {:04o})", state.display(), metadata.mode() & 0o7777), Some(mend))
            }
            Ok(_) => (state.display().to_string(), None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (format!("{} is made at the first start", state.display()), None)
            }
            Err(error) => {
                (format!("{}: {error}", state.display()), Some("run this as the user of the daemon".to_owned()))
            }
        };
        self.note("state", &found, mend.as_deref());
    }

    /// The files of `[tls]`, and how long they last.
    fn certificates(&mut self, settings: &Settings) {
        let (files, now) = (run::certificates(settings), UnixTime::now());
        match files.read(&settings.node.name, now) {
            Ok(credentials) => {
                for (path, day) in &credentials.ends {
                    let ends_soon = day.after(now).is_none_or(|left| left < ENDS_SOON);
                    let mend = ends_soon.then_some("renew it: a running daemon takes up the new file by itself");
                    self.note("certificate", &format!("{}: until {day}", path.display()), mend);
                }
            }
            Err(error) => {
                let text = crate::daemon::explain(&error);
                self.note(
                    "certificate",
                    &text,
                    Some("the daemon does not start with it, and goes on with what it read before"),
                );
            }
        }
    }

    /// A number that the kernel tells in `file`, which must be `least` or more.
    fn at_least(&mut self, what: &str, file: &str, least: u64, mend: &dyn Fn(u64) -> String) {
        let number = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        // Where it is not told (another namespace) nothing can be said of it.
        let Some(number) = number else { return };
        let mend = (number < least).then(|| mend(least));
        self.note(what, &format!("{number}, of {least} needed"), mend.as_deref());
    }

    /// The peers, as the running daemon knows them, or by dialling each.
    async fn peers(&mut self, settings: &Settings) {
        if let Ok(client) = Client::connect(&settings.control_socket()).await
            && let Ok(status) = client.status().await
        {
            for peer in status.peers {
                let trouble = peer.trouble.unwrap_or_else(|| "it has not been met yet".to_owned());
                let found = if peer.connected { "connected" } else { trouble.as_str() };
                let mend =
                    (!peer.connected).then_some("is hotspare running there, and does UDP get through both ways?");
                self.note(&format!("peer {}", peer.name), found, mend);
            }
            return;
        }
        let endpoint = match endpoint(settings) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let mend = "`hotspare id` makes the key if there is none, and prints what the peers must trust";
                return self.note("peers", &format!("not dialled: {error:#}"), Some(mend));
            }
        };
        for peer in &settings.peers {
            for address in peer.addresses.iter().map(ToString::to_string) {
                let met = match endpoint.connect(address.clone()).await {
                    // Whoever is not trusted hears of it after the handshake.
                    Ok(connection) => match tokio::time::timeout(OBJECTION, connection.closed()).await {
                        Ok(error) => Err(error),
                        Err(_) => Ok(()),
                    },
                    Err(error) => Err(error),
                };
                let what = format!("peer {}", peer.name);
                match met {
                    Ok(()) => self.note(&what, &format!("answers at {address}"), None),
                    Err(error) => {
                        let text = crate::daemon::explain(&error);
                        self.note(&what, &text, Some("a node that does not run, or a firewall, does not answer"));
                    }
                }
            }
        }
    }
}

/// A socket of this command's own, with the node's identity and trust.
fn endpoint(settings: &Settings) -> anyhow::Result<Endpoint> {
    let trusted = TrustedPeers::new();
    let names = settings.peers.iter().map(|peer| peer.name.clone()).collect();
    let files = run::certificates(settings);
    let (_, shown) = Certificates::load(files, settings.node.name.clone(), names, trusted.clone())?;
    let identity = shown.map_or_else(|| Identity::load(&settings.node.state), Ok)?;
    for peer in &settings.peers {
        if let Some(id) = &peer.id {
            trusted.trust(id.as_str().parse()?, peer.name.clone());
        }
    }
    for known in load_trust(&settings.node.state)? {
        trusted.trust(known.id.parse()?, known.name);
    }
    let any = std::net::SocketAddr::new(settings.node.listen.ip(), 0);
    Ok(Endpoint::bind(any, &identity, trusted, Limits::default())?)
}
