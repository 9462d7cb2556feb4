//! What a standby's session and its thread do: `daemon::standby` and `daemon::holder`, without waiting.

use super::*;
use crate::words::position::Reign;

impl World {
    pub(super) fn standby_hears(&mut self, number: usize, kind: u8, payload: &[u8]) {
        let Some(link) = self.links.get(&number) else { return };
        let (place, now) = (link.standby, self.instant());
        let standby = &mut self.standbys[place];
        let Some(linked) = standby.link.as_mut().filter(|link| link.number == number) else { return };
        let Some(follower) = &mut linked.follower else {
            return match Message::decode(kind, payload) {
                Ok(Some(Message::Hello(theirs))) => self.standby_greets(number, place, &theirs),
                _ => self.ends(number, Side::Standby, "no hello"),
            };
        };
        match follower.received(kind, payload, now) {
            Ok(Told::List(_)) => standby.jobs.push_back(Job::List),
            Ok(Told::Have(have)) => standby.jobs.push_back(Job::Have(have)),
            Ok(_) => {}
            Err(FollowerError::Deposed { by, .. }) => {
                self.ends(number, Side::Standby, "its primary was deposed");
                self.learns_of(place, by);
            }
            Err(error) => self.ends(number, Side::Standby, &error.to_string()),
        }
        self.has_work(place);
    }

    fn standby_greets(&mut self, number: usize, place: usize, theirs: &Hello) {
        let now = self.instant();
        let standby = &mut self.standbys[place];
        let Some(linked) = &mut standby.link else { return };
        if let Err(refused) = judge(&linked.ours, theirs) {
            return self.refuses(number, Side::Standby, refused);
        }
        // Written down before anything is done for it.
        (standby.memory.cluster, standby.memory.home) = (theirs.cluster, theirs.home);
        for reign in &theirs.reigns {
            standby.memory.learn(*reign);
        }
        let (position, chain) = standby.disk.standing;
        linked.follower = Some(Follower::new(theirs, position, now));
        standby.receiver = Receiver::new(theirs, position, chain);
        standby.arriving = None;
        self.reads(place);
    }

    /// The thread finishes what it is at, and takes no more; then the reign is written down.
    fn learns_of(&mut self, place: usize, reign: Reign) {
        let standby = &mut self.standbys[place];
        standby.sync();
        while standby.reveal().is_some() {}
        standby.jobs.clear();
        standby.receiver = None;
        standby.arriving = None;
        standby.memory.learn(reign);
    }

    pub(super) fn takes_data(&mut self, number: usize, place: usize, stream: usize, bytes: Vec<u8>) {
        let Some(link) = self.standbys[place].link.as_mut().filter(|link| link.number == number) else { return };
        while link.streams.len() <= stream {
            link.streams.push(Reading::new());
        }
        link.streams[stream].pieces.push_back(bytes);
        self.reads(place);
    }

    /// Reads what came on data streams, once the primary has greeted: of each kind one after the other, each as soon as those before it have
    /// said of what kind they are.
    fn reads(&mut self, place: usize) {
        let standby = &mut self.standbys[place];
        let Some(link) = standby.link.as_mut().filter(|link| link.follower.is_some()) else { return };
        let (mut generation_is_read, mut contents_are_read) = (false, false);
        for stream in &mut link.streams {
            if stream.arrival == Arrival::Before {
                let Some(first) = stream.next() else { break };
                stream.first = Some(first);
            }
            let is_read = match stream.arrival {
                Arrival::Generation => &mut generation_is_read,
                Arrival::Contents => &mut contents_are_read,
                Arrival::Before | Arrival::After => continue,
            };
            if std::mem::replace(is_read, true) {
                continue;
            }
            standby.jobs.extend(stream.first.take().map(Job::Piece));
            while stream.arrival != Arrival::After
                && let Some(piece) = stream.next()
            {
                standby.jobs.push_back(Job::Piece(piece));
            }
            *is_read = stream.arrival != Arrival::After;
        }
        self.has_work(place);
    }

    fn has_work(&mut self, place: usize) {
        let standby = &mut self.standbys[place];
        if !standby.is_busy && !standby.jobs.is_empty() {
            standby.is_busy = true;
            let boot = standby.boot;
            self.at(0, Event::Works(place, boot));
        }
    }

    /// One step of the thread that owns the replica.
    pub(super) fn works(&mut self, place: usize) {
        let standby = &mut self.standbys[place];
        let (boot, pace) = (standby.boot, standby.pace);
        standby.is_busy = false;
        let mut after = 1;
        if let Some(message) = standby.sync() {
            let chain = standby.disk.standing.1;
            note!(self, "{} syncs {}", self.standbys[place].name, self.standbys[place].disk.standing.0);
            if self.says(place, &message) {
                self.standbys[place].told = Some(chain);
            }
        } else if let Some(message) = standby.reveal() {
            self.says(place, &message);
        } else if let Some(job) = standby.jobs.pop_front() {
            match standby.job(job) {
                Done::Nothing => after = 0,
                Done::Tell(message) => drop(self.says(place, &message)),
                Done::Written => {
                    after = 1 + u64::try_from(self.dice.index(pace.as_millis() as usize + 1)).unwrap();
                }
            }
        }
        let standby = &mut self.standbys[place];
        if standby.written.is_some() || !standby.disk.journal.is_empty() || !standby.jobs.is_empty() {
            standby.is_busy = true;
            self.at(after, Event::Works(place, boot));
        }
    }

    /// Sends a message over the standby's link, if it has one with a primary that greeted.
    fn says(&mut self, place: usize, message: &Message) -> bool {
        let link = self.standbys[place].link.as_ref().filter(|link| link.follower.is_some());
        let Some(number) = link.map(|link| link.number) else { return false };
        self.tell(number, Side::Primary, message);
        true
    }
}
