//! The world: a clock, nodes, links, and what happens to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use super::content::Content;
use super::network::{Arrived, Link, Side, Stream};
use super::primary::{CatchUp, Primary, Session};
use super::standby::{Disk, Done, Job, Linked, Reading, Standby};
use super::{CLUSTER, HOME, bytes, hello};
use crate::daemon::memory::Memory;
use crate::daemon::window::{Next, Shipment};
use crate::thought::dice::Dice;
use crate::thought::generation::Payload;
use crate::thought::session::arrival::Arrival;
use crate::thought::session::follower::{Follower, FollowerError, Told};
use crate::thought::session::judge;
use crate::thought::session::patience::Patience;
use crate::thought::session::receiver::Receiver;
use crate::thought::session::sender::{Asked, Heard, Sender};
use crate::thought::wire::frame::{Frame, FrameDecoder, encode_body};
use crate::thought::wire::message::{
    CONTROL_CAP, DATA_CAP, Deposed, Have, Heartbeat, HeldContent, Hello, List, Message, Refused, RefusedWhy, Role,
    StreamStart, data,
};
use crate::words::entry::{Digest, Timestamp};
use crate::words::path::RelPath;
use crate::words::position::{ChainDigest, Position};

/// So long a hello is waited for.
const HELLO: Duration = Duration::from_secs(10);

/// Something that is due.
enum Event {
    /// Trouble, while there is to be some.
    Trouble,
    Write(usize),
    Cut(usize),
    Dial(usize),
    Arrives(usize, Stream),
    /// The other end closed the link.
    Closed(usize, Side),
    Tick(usize, Side),
    /// What a session was sending is out.
    Shipped(usize),
    /// What was to be overtaken goes out.
    Flush(usize),
    /// A standby's thread goes on, if it is still that process.
    Works(usize, u64),
    Starts(Side, usize),
}

pub(super) struct World {
    pub(super) dice: Dice,
    start: Instant,
    pub(super) now: Duration,
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    events: HashMap<u64, Event>,
    number: u64,
    pub(super) primaries: Vec<Primary>,
    pub(super) standbys: Vec<Standby>,
    links: BTreeMap<usize, Link>,
    links_made: usize,
    /// Every state that any history passed through.
    pub(super) states: HashMap<ChainDigest, Content>,
    /// A standby's disk was lost, and so what it acked.
    pub(super) has_lost_a_disk: bool,
    /// Generations are also sent twice and out of order, which no honest primary does.
    is_faulty: bool,
    pub(super) is_calm: bool,
    pub(super) stats: Stats,
    pub(super) trace: Option<Vec<String>>,
}

/// How often what happened.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stats {
    pub(super) events: u64,
    pub(super) acked: u64,
    pub(super) rejected: u64,
    pub(super) catch_ups: u64,
    pub(super) crashes: u64,
    pub(super) cut_links: u64,
    pub(super) reigns: u64,
}

impl Stats {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { events, acked, rejected, catch_ups, crashes, cut_links, reigns } = other;
        self.events += events;
        self.acked += acked;
        self.rejected += rejected;
        self.catch_ups += catch_ups;
        self.crashes += crashes;
        self.cut_links += cut_links;
        self.reigns += reigns;
    }
}

macro_rules! note {
    ($world:expr, $($what:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            trace.push(format!("{:>9.3} {}", $world.now.as_secs_f64(), format_args!($($what)*)));
        }
    };
}

impl World {
    /// A world that `seed` repeats.
    pub(super) fn new(seed: u64, start: Instant, blank: &Memory, is_traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let count = 1 + dice.index(3);
        let is_faulty = dice.one_in(3);
        let mut memory = blank.clone();
        (memory.cluster, memory.home) = (Some(CLUSTER), Some(HOME));
        let standby = |number: usize, dice: &mut Dice| Standby {
            name: format!("standby-{number}").try_into().unwrap(),
            is_up: false,
            boot: 0,
            instance: bytes(dice),
            memory: blank.clone(),
            disk: Disk::default(),
            told: None,
            pace: Duration::from_millis([1, 1, 30, 400, 3000][dice.index(5)]),
            places: Vec::new(),
            link: None,
            receiver: None,
            jobs: Default::default(),
            arriving: None,
            contents: 0,
            written: None,
            held: Default::default(),
            is_busy: false,
        };
        let standbys = (0..count).map(|number| standby(number, &mut dice)).collect();
        let mut world = Self {
            dice,
            start,
            now: Duration::ZERO,
            due: BinaryHeap::new(),
            events: HashMap::new(),
            number: 0,
            primaries: vec![Primary::new("primary-0", memory, Content::default())],
            standbys,
            links: BTreeMap::new(),
            links_made: 0,
            states: HashMap::from([(ChainDigest::default(), Content::default())]),
            has_lost_a_disk: false,
            is_faulty,
            is_calm: false,
            stats: Stats::default(),
            trace: is_traced.then(Vec::new),
        };
        world.at(0, Event::Starts(Side::Primary, 0));
        for standby in 0..count {
            world.at(0, Event::Starts(Side::Standby, standby));
        }
        world.at(50, Event::Write(0));
        world.at(100, Event::Cut(0));
        world.at(300, Event::Trouble);
        world
    }

    fn at(&mut self, milliseconds: u64, event: Event) {
        let due = self.now + Duration::from_millis(milliseconds);
        self.at_time(due, event);
    }

    fn at_time(&mut self, due: Duration, event: Event) {
        self.number += 1;
        self.events.insert(self.number, event);
        self.due.push(Reverse((due, self.number)));
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// Lets the next thing happen; false if nothing is due before `end`.
    pub(super) fn step(&mut self, end: Duration) -> bool {
        match self.due.peek() {
            Some(Reverse((due, number))) if *due <= end => {
                let (due, number) = (*due, *number);
                self.due.pop();
                self.now = self.now.max(due);
                self.stats.events += 1;
                if let Some(event) = self.events.remove(&number) {
                    self.happens(event);
                }
                true
            }
            _ => {
                self.now = self.now.max(end);
                false
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Trouble => self.trouble(),
            Event::Write(primary) => self.writes(primary),
            Event::Cut(primary) => self.cuts(primary),
            Event::Dial(standby) => self.dials(standby),
            Event::Arrives(link, stream) => self.arrives(link, stream),
            Event::Closed(link, side) => self.ends(link, side, "the other end closed it"),
            Event::Tick(link, side) => self.ticks(link, side),
            Event::Shipped(link) => self.shipped(link),
            Event::Flush(link) => self.flush(link),
            Event::Works(standby, boot) if self.standbys[standby].boot == boot => self.works(standby),
            Event::Works(..) => {}
            Event::Starts(Side::Primary, number) => self.starts_primary(number),
            Event::Starts(Side::Standby, number) => self.starts_standby(number),
        }
    }

    fn starts_primary(&mut self, number: usize) {
        let is_over = self.is_calm && number + 1 < self.primaries.len();
        let primary = &mut self.primaries[number];
        if primary.is_up || is_over {
            return;
        }
        let before = primary.reign.epoch;
        primary.start(&mut self.dice);
        self.stats.reigns += u64::from(primary.reign.epoch > before);
        note!(self, "{} starts at {}", primary.name, primary.position);
        self.states.insert(primary.head().1, primary.tree().clone());
    }

    fn starts_standby(&mut self, number: usize) {
        let standby = &mut self.standbys[number];
        if standby.is_up {
            return;
        }
        // What is acked is shown before anybody is told where it stands.
        while standby.reveal().is_some() {}
        standby.is_up = true;
        standby.boot += 1;
        standby.instance = bytes(&mut self.dice);
        standby.places = vec![Patience::new(self.start + self.now); self.primaries.len()];
        note!(self, "{} starts at {}", standby.name, standby.disk.standing.0);
        self.at(0, Event::Dial(number));
    }

    fn writes(&mut self, number: usize) {
        if self.is_calm {
            return;
        }
        for _ in 0..1 + self.dice.index(3) {
            let (name, delta) = (self.dice.index(4), 1 + self.dice.index(1000));
            self.primaries[number].home.write(u8::try_from(name).unwrap(), u32::try_from(delta).unwrap());
        }
        let next = 20 + self.dice.index(1500) as u64;
        self.at(next, Event::Write(number));
    }

    fn cuts(&mut self, number: usize) {
        if self.primaries[number].is_up {
            self.cut(number, false);
        }
        let next = 100 + self.dice.index(700) as u64;
        self.at(next, Event::Cut(number));
    }

    fn cut(&mut self, number: usize, is_wanted: bool) {
        let primary = &mut self.primaries[number];
        if primary.cut(is_wanted) {
            note!(self, "{} cuts {}", primary.name, primary.position);
            self.states.insert(primary.head().1, primary.tree().clone());
            let links: Vec<usize> = primary.sessions.keys().copied().collect();
            links.into_iter().for_each(|link| self.goes_on(link));
        }
    }
}

mod links;
mod primary;
mod standby;
mod trouble;
