//! How links begin, what goes over them, and how they end.

use super::*;

impl World {
    pub(super) fn dials(&mut self, number: usize) {
        let now = self.instant();
        let standby = &mut self.standbys[number];
        if !standby.is_up || standby.link.is_some() {
            return;
        }
        if standby.is_busy || !standby.jobs.is_empty() {
            // It first says where the replica stands, after all that arrived.
            return self.at(50, Event::Dial(number));
        }
        let Some((place, due)) = standby.places.iter().map(Patience::due).enumerate().min_by_key(|(_, due)| *due)
        else {
            return;
        };
        if due > now {
            let due = due - self.start;
            return self.at_time(due, Event::Dial(number));
        }
        if !self.primaries[place].is_up {
            return self.link_ended(number, place, None);
        }
        let link = self.links_made;
        self.links_made += 1;
        self.links.insert(link, Link::new(place, number));
        let standby = &mut self.standbys[number];
        let (position, chain) = standby.disk.standing;
        let memory = &standby.memory;
        let home = (position != Position::default()).then_some(HOME);
        let ours = Hello {
            cluster: memory.cluster,
            home,
            reigns: memory.reigns.clone(),
            position,
            chain,
            tree: standby.disk.content().digest(),
            ..hello(&standby.name, standby.instance, Role::Standby)
        };
        standby.link = Some(Linked {
            number: link,
            since: self.now,
            ours: ours.clone(),
            decoder: FrameDecoder::new(CONTROL_CAP),
            follower: None,
            streams: Vec::new(),
        });
        let primary = &mut self.primaries[place];
        let (position, chain) = primary.head();
        let instance = [u8::try_from(primary.boot % 251).unwrap(); 16];
        let theirs = Hello {
            cluster: Some(CLUSTER),
            home: Some(HOME),
            reigns: primary.memory.reigns.clone(),
            position,
            chain,
            ..hello(&primary.name, instance, Role::Primary)
        };
        primary.sessions.insert(
            link,
            Session {
                decoder: FrameDecoder::new(CONTROL_CAP),
                ours: theirs.clone(),
                sender: None,
                asked: None,
                catch_up: None,
                peer: None,
                since: self.now,
            },
        );
        note!(self, "link {link}: standby-{number} to primary-{place}, at {}", ours.position);
        self.tell(link, Side::Primary, &ours.into());
        self.tell(link, Side::Standby, &theirs.into());
        self.at(1000, Event::Tick(link, Side::Primary));
        self.at(1000, Event::Tick(link, Side::Standby));
    }

    fn link_ended(&mut self, number: usize, place: usize, held: Option<Duration>) {
        let (now, chance) = (self.instant(), bytes(&mut self.dice));
        self.standbys[number].places[place].ended(held, now, u16::from_le_bytes(chance));
        self.at(0, Event::Dial(number));
    }

    /// Ends a link at one side; the other hears of it, if anything reaches it.
    pub(super) fn ends(&mut self, number: usize, side: Side, why: &str) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if !std::mem::replace(&mut link.is_open[side as usize], false) {
            return;
        }
        let (place, standby) = (link.primary, link.standby);
        let is_heard = link.is_open[side.other() as usize] && !link.is_dead(side.other());
        note!(self, "link {number}: ends at the {side:?}: {why}");
        if is_heard {
            let after = 1 + self.dice.index(30) as u64;
            self.at(after, Event::Closed(number, side.other()));
        }
        match side {
            Side::Primary => drop(self.primaries[place].sessions.remove(&number)),
            Side::Standby => {
                let ended = self.standbys[standby].link.take_if(|link| link.number == number);
                if let Some(ended) = ended {
                    let held = ended.follower.is_some().then(|| self.now.saturating_sub(ended.since));
                    self.link_ended(standby, place, held);
                }
            }
        }
        if self.links.get(&number).is_some_and(|link| link.is_open == [false; 2]) {
            self.links.remove(&number);
        }
    }

    pub(super) fn tell(&mut self, link: usize, to: Side, message: &Message) {
        let (kind, payload) = message.encode().unwrap();
        self.send(link, Stream::Control(to), &[(kind, payload)]);
    }

    pub(super) fn send(&mut self, number: usize, stream: Stream, frames: &[(u8, Vec<u8>)]) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            Frame { kind: *kind, payload }.encode(DATA_CAP, &mut bytes).unwrap();
        }
        for due in link.send(stream, &bytes, self.now, &mut self.dice) {
            self.at_time(due, Event::Arrives(number, stream));
        }
    }

    pub(super) fn arrives(&mut self, number: usize, stream: Stream) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let bytes = match link.arrive(stream, self.now) {
            Arrived::Bytes(bytes) => bytes,
            Arrived::Later(due) => return self.at_time(due, Event::Arrives(number, stream)),
            Arrived::Lost => return,
        };
        let (primary, standby) = (link.primary, link.standby);
        match stream {
            Stream::Control(Side::Primary) if link.is_open[0] => {
                self.hears(number, &bytes, Side::Primary, |world| {
                    world.primaries[primary].sessions.get_mut(&number).map(|session| &mut session.decoder)
                });
            }
            Stream::Control(Side::Standby) if link.is_open[1] => {
                self.hears(number, &bytes, Side::Standby, |world| {
                    let link = world.standbys[standby].link.as_mut().filter(|link| link.number == number);
                    link.map(|link| &mut link.decoder)
                });
            }
            Stream::Data(stream) if link.is_open[1] => self.takes_data(number, standby, stream, bytes),
            _ => {}
        }
    }

    /// Feeds bytes of a control stream to its reader, and the messages to its side.
    fn hears(
        &mut self,
        number: usize,
        mut bytes: &[u8],
        side: Side,
        decoder: impl Fn(&mut Self) -> Option<&mut FrameDecoder>,
    ) {
        // A side that ended its link reads no further.
        while !bytes.is_empty()
            && let Some(decoder) = decoder(self)
        {
            bytes = &bytes[decoder.feed(bytes).unwrap()..];
            if let Some((kind, payload)) = decoder.pull().unwrap() {
                match side {
                    Side::Primary => self.primary_hears(number, kind, &payload),
                    Side::Standby => self.standby_hears(number, kind, &payload),
                }
            }
        }
    }

    pub(super) fn ticks(&mut self, number: usize, side: Side) {
        let now = self.instant();
        let Some(link) = self.links.get(&number).filter(|link| link.is_open[side as usize]) else { return };
        let (primary, standby) = (link.primary, link.standby);
        let beat = match side {
            Side::Primary => {
                let session = self.primaries[primary].sessions.get_mut(&number);
                let Some(session) = session else { return };
                match &mut session.sender {
                    Some(sender) => sender.beat(now).map_err(|error| error.to_string()),
                    None if self.now - session.since > HELLO => Err("no hello".into()),
                    None => Ok(false),
                }
            }
            Side::Standby => {
                let link = self.standbys[standby].link.as_mut().filter(|link| link.number == number);
                let Some(link) = link else { return };
                match &mut link.follower {
                    Some(follower) => follower.beat(now).map_err(|error| error.to_string()),
                    None if self.now - link.since > HELLO => Err("no hello".into()),
                    None => Ok(false),
                }
            }
        };
        match beat {
            Ok(true) => self.tell(number, side.other(), &Heartbeat::default().into()),
            Ok(false) => {}
            Err(why) => return self.ends(number, side, &why),
        }
        self.at(1000, Event::Tick(number, side));
    }
}
