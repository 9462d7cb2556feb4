//! From what a file says to what it means.

mod locate;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Origin, Problem};
use super::raw::{Given, Place, Raw, RawPeer, allowed};
use super::settings::{
    Address, Backend, Batch, Engine, Failover, Hooks, LogFormat, Node, Observe, Peer, PeerId, Preset, Replicate,
    Reserve, Role, Scrub, Settings, Standby, Tls, Watch, Window,
};
use super::units::{parse_percent, parse_size};
use crate::capture::LARGE_FROM_BYTES;
use crate::thought::fuse::FuseOptions;
use crate::thought::timing::Windows;
use crate::thought::wire::message::Bandwidth;
use crate::words::position::NodeName;

pub(super) fn judge(file: &Path, text: &str, overrides: &[(String, String)]) -> Result<Settings, ConfigError> {
    let mut raw: Raw =
        toml::from_str(text).map_err(|error| ConfigError::Invalid(vec![locate::problem(file, text, &error)]))?;
    let mut judge = Judge { file, text, problems: Vec::new() };
    judge.apply(&mut raw, overrides);
    let dormant = dormant(&mut raw);
    let given = given(&mut raw);
    let settings = judge.settings(raw, dormant);
    match settings {
        Some(settings) if judge.problems.is_empty() => Ok(Settings { given, ..settings }),
        _ => Err(ConfigError::Invalid(judge.problems)),
    }
}

const DORMANT: [&str; 10] = [
    "standby.history_age",
    "standby.history_size",
    "failover.engine",
    "failover.max_lag",
    "failover.lease",
    "hooks.quiesce",
    "hooks.promoted",
    "hooks.demoted",
    "hooks.alarm",
    "observe.http",
];

fn dormant(raw: &mut Raw) -> Vec<&'static str> {
    let is_set = |key: &&str| {
        let slot = key.split_once('.').and_then(|(section, key)| raw.slot(section, key));
        slot.is_some_and(|slot| slot.is_some())
    };
    DORMANT.into_iter().filter(is_set).collect()
}

fn given(raw: &mut Raw) -> BTreeMap<String, String> {
    let keys = Raw::SECTIONS.iter().flat_map(|section| Raw::keys(section).iter().map(move |key| (section, key)));
    let texts = keys.filter_map(|(section, key)| {
        let given = raw.slot(section, key)?.as_ref()?;
        Some((format!("{section}.{key}"), given.text.clone()))
    });
    texts.collect()
}

struct Judge<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Judge<'_> {
    /// Takes the variables that are meant for us; see the module docs of [`super`].
    fn apply(&mut self, raw: &mut Raw, overrides: &[(String, String)]) {
        for (name, value) in overrides {
            let Some(rest) = name.strip_prefix("HOTSPARE_").filter(|rest| !is_of_a_service(rest)) else { continue };
            let rest = rest.to_ascii_lowercase();
            let Some((section, key)) = rest.split_once('_') else { continue };
            if !Raw::SECTIONS.contains(&section) {
                continue;
            }
            match raw.slot(section, key) {
                Some(slot) => *slot = Some(Given { text: value.clone(), place: Place::Variable(name.clone()) }),
                None => self.problems.push(Problem {
                    origin: Origin::Variable(name.clone()),
                    key: format!("{section}.{key}"),
                    found: "a key that no variable can set".to_owned(),
                    allowed: locate::keys_of(section, Raw::keys(section), key),
                }),
            }
        }
    }

    fn settings(&mut self, raw: Raw, dormant: Vec<&'static str>) -> Option<Settings> {
        let Raw { node, tls, replicate, batch, window, watch, scrub, standby, failover, hooks, observe, peer } = raw;
        let name = self.required("node.name", node.name.as_ref(), parse_name);
        let home = self.required("node.home", node.home.as_ref(), parse_place);
        let state = self
            .value("node.state", node.state.as_ref(), parse_place)
            .or_else(|| node.state.is_none().then(|| PathBuf::from("/var/lib/hotspare")));
        if let (Some(home), Some(state)) = (&home, &state)
            && (home.starts_with(state) || state.starts_with(home))
        {
            let (key, given) =
                if node.state.is_some() { ("node.state", &node.state) } else { ("node.home", &node.home) };
            self.refuse(key, given.as_ref());
        }
        let initial_role = self.value("node.initial_role", node.initial_role.as_ref(), parse_role);
        let listen = self.value("node.listen", node.listen.as_ref(), parse_listen);
        let peers = self.peers(peer, name.as_ref());
        let tls = self.tls(&tls);
        let replicate = self.replicate(&replicate);
        let batch = self.batch(&batch);
        let watch = self.watch(&watch);
        let scrub = self.scrub(&scrub);
        let window = self.window(&window);
        let standby = self.standby(&standby);
        let failover = Failover {
            engine: self.value("failover.engine", failover.engine.as_ref(), parse_engine).unwrap_or(Engine::Manual),
            max_lag: self.value("failover.max_lag", failover.max_lag.as_ref(), parse_duration),
            lease: self.value("failover.lease", failover.lease.as_ref(), parse_lease),
        };
        let hooks = Hooks {
            quiesce: self.value("hooks.quiesce", hooks.quiesce.as_ref(), parse_place),
            promoted: self.value("hooks.promoted", hooks.promoted.as_ref(), parse_place),
            demoted: self.value("hooks.demoted", hooks.demoted.as_ref(), parse_place),
            alarm: self.value("hooks.alarm", hooks.alarm.as_ref(), parse_place),
        };
        let observe = Observe {
            http: self.value("observe.http", observe.http.as_ref(), parse_listen),
            log_format: self
                .value("observe.log_format", observe.log_format.as_ref(), parse_log_format)
                .unwrap_or(LogFormat::Text),
        };
        let listen = listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 7420)));
        let node = Node { name: name?, home: home?, state: state?, initial_role, listen };
        Some(Settings {
            node,
            peers,
            tls,
            replicate,
            batch,
            window,
            watch,
            scrub,
            standby,
            failover,
            hooks,
            observe,
            dormant,
            given: BTreeMap::new(),
        })
    }

    fn tls(&mut self, raw: &super::raw::RawTls) -> Tls {
        let ca = self.value("tls.ca", raw.ca.as_ref(), parse_place);
        let cert = self.value("tls.cert", raw.cert.as_ref(), parse_place);
        let key = self.value("tls.key", raw.key.as_ref(), parse_place);
        match (&raw.cert, &raw.key) {
            (Some(_), None) => self.refuse("tls.cert", raw.cert.as_ref()),
            (None, Some(_)) => self.refuse("tls.key", raw.key.as_ref()),
            _ => {}
        }
        Tls { ca, shown: cert.zip(key) }
    }

    fn watch(&mut self, raw: &super::raw::RawWatch) -> Watch {
        let number = |least: usize, most: usize| {
            move |text: &str| text.parse().ok().filter(|number| (least..=most).contains(number))
        };
        let poll = |text: &str| {
            let fits = |poll: &Duration| (Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(poll);
            parse_duration(text).filter(fits)
        };
        Watch {
            backend: self.value("watch.backend", raw.backend.as_ref(), parse_backend).unwrap_or(Backend::Notify),
            max_watches: self.value("watch.max_watches", raw.max_watches.as_ref(), number(16, usize::MAX)),
            queue: self.value("watch.queue", raw.queue.as_ref(), number(64, 1 << 24)).unwrap_or(65_536),
            scan_always: self.value("watch.scan", raw.scan.as_ref(), parse_scan).unwrap_or(false),
            poll: self.value("watch.poll", raw.poll.as_ref(), poll).unwrap_or(Duration::from_secs(30)),
        }
    }

    fn standby(&mut self, standby: &super::raw::RawStandby) -> Standby {
        let fuse = FuseOptions::default();
        let window = |text: &str| {
            let fits =
                |window: &Duration| (Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600)).contains(window);
            parse_duration(text).filter(fits)
        };
        let count = self.value("standby.fuse_count", standby.fuse_count.as_ref(), |text| text.parse().ok());
        let share = self.value("standby.fuse", standby.fuse.as_ref(), parse_percent);
        let window = self.value("standby.fuse_window", standby.fuse_window.as_ref(), window);
        Standby {
            history_age: self.value("standby.history_age", standby.history_age.as_ref(), parse_duration),
            history_bytes: self.value("standby.history_size", standby.history_size.as_ref(), parse_size),
            fuse: FuseOptions {
                count: count.unwrap_or(fuse.count),
                share_percent: share.unwrap_or(fuse.share_percent),
                window: window.unwrap_or(fuse.window),
            },
            reserve: self.value("standby.reserve", standby.reserve.as_ref(), parse_reserve),
            bandwidth: self.bandwidth(standby),
            adopt: self.value("standby.adopt", standby.adopt.as_ref(), parse_yes).unwrap_or(false),
        }
    }

    fn replicate(&mut self, raw: &super::raw::RawReplicate) -> Replicate {
        let preset = self.value("replicate.preset", raw.preset.as_ref(), parse_preset).unwrap_or(Preset::Jenkins);
        let include = self.patterns("replicate.include", &raw.include);
        let exclude = self.patterns("replicate.exclude", &raw.exclude);
        Replicate { preset, include, exclude }
    }

    fn scrub(&mut self, raw: &super::raw::RawScrub) -> Scrub {
        let rate = self.value("scrub.rate", raw.rate.as_ref(), |text| match text {
            "off" => Some(None),
            text => parse_size(text).filter(|&bytes| bytes >= 64 << 10).map(Some),
        });
        let every = self.value("scrub.every", raw.every.as_ref(), |text| {
            parse_duration(text).filter(|every| *every >= Duration::from_secs(1))
        });
        Scrub {
            bytes_per_second: rate.unwrap_or(Some(8 << 20)),
            every: every.unwrap_or(Duration::from_secs(24 * 3600)),
        }
    }

    fn patterns(&mut self, key: &str, given: &[Given]) -> Vec<String> {
        given.iter().filter_map(|pattern| self.value(key, Some(pattern), parse_pattern)).collect()
    }

    fn batch(&mut self, raw: &super::raw::RawBatch) -> Batch {
        let within = |low: Duration, high: Duration| {
            move |text: &str| parse_duration(text).filter(|duration| (low..=high).contains(duration))
        };
        let seconds = Duration::from_secs;
        let quiet = self.value("batch.quiet", raw.quiet.as_ref(), within(Duration::from_millis(1), seconds(10)));
        let longest = self.value("batch.longest", raw.longest.as_ref(), within(Duration::from_millis(10), seconds(60)));
        let big = self.value("batch.big_file", raw.big_file.as_ref(), |text| {
            parse_size(text).filter(|bytes| (1 << 20..=1 << 30).contains(bytes))
        });
        let batch = Batch {
            quiet: quiet.unwrap_or(Windows::default().quiet),
            longest: longest.unwrap_or(Windows::default().longest),
            big_file_bytes: big.unwrap_or(LARGE_FROM_BYTES),
        };
        if batch.quiet > batch.longest {
            if raw.quiet.is_some() {
                self.refuse("batch.quiet", raw.quiet.as_ref());
            } else {
                self.refuse("batch.longest", raw.longest.as_ref());
            }
        }
        batch
    }

    fn bandwidth(&mut self, raw: &super::raw::RawStandby) -> Option<Bandwidth> {
        let rate = |text: &str| parse_size(text).filter(|&bytes| bytes >= 64 << 10);
        let bytes_per_second = self.value("standby.bandwidth", raw.bandwidth.as_ref(), rate);
        let burst = self.value("standby.burst", raw.burst.as_ref(), rate);
        if raw.bandwidth.is_none() {
            self.refuse("standby.burst", raw.burst.as_ref());
        }
        let bytes_per_second = bytes_per_second?;
        Some(Bandwidth { bytes_per_second, burst_bytes: burst.unwrap_or(bytes_per_second) })
    }

    fn window(&mut self, raw: &super::raw::RawWindow) -> Window {
        let memory = self.value("window.memory", raw.memory.as_ref(), |text| {
            parse_size(text).filter(|bytes| (1 << 20..=4 << 30).contains(bytes))
        });
        let disk =
            self.value("window.disk", raw.disk.as_ref(), |text| parse_size(text).filter(|&bytes| bytes >= 1 << 20));
        let linger = self.value("window.linger", raw.linger.as_ref(), |text| {
            parse_duration(text).filter(|duration| *duration <= Duration::from_secs(86_400))
        });
        Window {
            memory_bytes: memory.unwrap_or(32 << 20),
            disk_bytes: disk.unwrap_or(512 << 20),
            linger: linger.unwrap_or(Duration::from_secs(600)),
        }
    }

    fn peers(&mut self, raw: Vec<toml::Spanned<RawPeer>>, own: Option<&NodeName>) -> Vec<Peer> {
        let mut names: HashSet<NodeName> = own.cloned().into_iter().collect();
        let mut ids = HashSet::new();
        let mut peers = Vec::new();
        for spanned in raw {
            let here = Given { text: String::new(), place: Place::File(spanned.span()) };
            let RawPeer { name, address, id } = spanned.into_inner();
            let problems = self.problems.len();
            let given_name = self.in_table("peer.name", name.as_ref(), &here, parse_name);
            if given_name.clone().is_some_and(|name| !names.insert(name)) {
                self.refuse("peer.name", name.as_ref());
            }
            let given = address.as_ref().map(|address| address.0.as_slice()).unwrap_or_default();
            if given.is_empty() {
                self.missing("peer.address", &here);
            }
            let addresses: Vec<Address> =
                given.iter().filter_map(|text| self.value("peer.address", Some(text), parse_address)).collect();
            let given_id = self.value("peer.id", id.as_ref(), |text| PeerId::try_from(text.to_owned()).ok());
            if given_id.clone().is_some_and(|id| !ids.insert(id)) {
                self.refuse("peer.id", id.as_ref());
            }
            if let Some(name) = given_name.filter(|_| problems == self.problems.len()) {
                peers.push(Peer { name, addresses, id: given_id });
            }
        }
        peers
    }

    fn value<T>(&mut self, key: &str, given: Option<&Given>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let parsed = parse(&given?.text);
        if parsed.is_none() {
            self.refuse(key, given);
        }
        parsed
    }

    fn required<T>(&mut self, key: &str, given: Option<&Given>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if given.is_none() {
            self.problem(Origin::File(self.file.to_path_buf()), key, "nothing, and it must be set".to_owned());
        }
        self.value(key, given, parse)
    }

    fn in_table<T>(
        &mut self,
        key: &str,
        given: Option<&Given>,
        table: &Given,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if given.is_none() {
            self.missing(key, table);
        }
        self.value(key, given, parse)
    }

    fn missing(&mut self, key: &str, table: &Given) {
        self.problem(self.origin(table), key, "nothing, and it must be set".to_owned());
    }

    fn refuse(&mut self, key: &str, given: Option<&Given>) {
        if let Some(given) = given {
            self.problem(self.origin(given), key, format!("{:?}", given.text));
        }
    }

    fn origin(&self, given: &Given) -> Origin {
        match &given.place {
            Place::File(span) => Origin::Line(self.file.to_path_buf(), locate::line(self.text, span.start)),
            Place::Variable(name) => Origin::Variable(name.clone()),
        }
    }

    fn problem(&mut self, origin: Origin, key: &str, found: String) {
        let allowed = allowed(key).unwrap_or_default().to_owned();
        self.problems.push(Problem { origin, key: key.to_owned(), found, allowed });
    }
}

/// What Kubernetes puts into the environment of every pod for a Service called `hotspare...`.
fn is_of_a_service(rest: &str) -> bool {
    let last = |suffix: &str| rest.ends_with(suffix);
    last("_SERVICE_HOST") || last("_PORT") || rest.contains("_SERVICE_PORT") || rest.contains("_PORT_")
}

fn parse_reserve(text: &str) -> Option<Reserve> {
    match parse_percent(text) {
        Some(percent) => (percent <= 90).then_some(Reserve::Percent(percent)),
        None => parse_size(text).map(Reserve::Bytes),
    }
}

fn parse_name(text: &str) -> Option<NodeName> {
    NodeName::try_from(text.to_owned()).ok()
}

/// An absolute path other than `/`, without `..`; `.` and doubled slashes are dropped.
fn parse_place(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = !path.components().any(|part| part == Component::ParentDir) && !text.contains('\0');
    (path.is_absolute() && path.parent().is_some() && plain).then(|| path.components().collect())
}

fn parse_role(text: &str) -> Option<Role> {
    match text {
        "primary" => Some(Role::Primary),
        "standby" => Some(Role::Standby),
        _ => None,
    }
}

fn parse_listen(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

fn parse_preset(text: &str) -> Option<Preset> {
    match text {
        "jenkins" => Some(Preset::Jenkins),
        "none" => Some(Preset::None),
        _ => None,
    }
}

fn parse_scan(text: &str) -> Option<bool> {
    match text {
        "auto" => Some(false),
        "always" => Some(true),
        _ => None,
    }
}

fn parse_backend(text: &str) -> Option<Backend> {
    match text {
        "notify" => Some(Backend::Notify),
        "inotify" => Some(Backend::Inotify),
        _ => None,
    }
}

fn parse_engine(text: &str) -> Option<Engine> {
    match text {
        "manual" => Some(Engine::Manual),
        "keepalived" => Some(Engine::Keepalived),
        "kubernetes" => Some(Engine::Kubernetes),
        _ => None,
    }
}

fn parse_log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

fn parse_yes(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn parse_lease(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    ((1..=253).contains(&text.len()) && text.bytes().all(fits)).then(|| text.to_owned())
}

fn parse_pattern(text: &str) -> Option<String> {
    let mut builder = ignore::gitignore::GitignoreBuilder::new("/");
    let fits = !text.trim().is_empty() && !text.starts_with(['!', '#']) && builder.add_line(None, text).is_ok();
    fits.then(|| text.to_owned())
}

fn parse_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None => host.to_owned(),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let fits = host.contains(':') && text.starts_with('[') || !host.is_empty() && host.bytes().all(is_name);
    fits.then_some(Address { host, port })
}
