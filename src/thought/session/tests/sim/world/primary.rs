//! What a primary's session does: the tasks of `daemon::primary` and `daemon::catch_up`, without waiting.

use super::*;

impl World {
    pub(super) fn primary_hears(&mut self, number: usize, kind: u8, payload: &[u8]) {
        let Some(link) = self.links.get(&number) else { return };
        let (place, now) = (link.primary, self.instant());
        let primary = &mut self.primaries[place];
        let Some(session) = primary.sessions.get_mut(&number) else { return };
        let Some(sender) = &mut session.sender else {
            let Ok(Some(Message::Hello(theirs))) = Message::decode(kind, payload) else {
                return self.ends(number, Side::Primary, "no hello");
            };
            return self.primary_greets(number, &theirs);
        };
        let peer = session.peer.clone().unwrap();
        match sender.received(kind, payload, now) {
            Ok(Heard::Acked(position)) => {
                primary.peers.change(&peer, |peer| peer.has_acked(position));
                self.stats.acked += 1;
                note!(self, "link {number}: {peer} acked {position}");
            }
            Ok(Heard::Rejected(rejected)) => {
                self.stats.rejected += 1;
                let waits_in_vain = matches!(session.catch_up, Some(CatchUp::Holding));
                note!(self, "link {number}: {peer} rejects {}: {}", rejected.position, rejected.text);
                if waits_in_vain {
                    return self.ends(number, Side::Primary, "its catch-up is refused");
                }
            }
            Ok(Heard::Listing((), listing)) => self.listed(number, &Content::of(&listing)),
            Ok(Heard::Lack((), lack)) => {
                let Some(CatchUp::Asking(contents)) = session.catch_up.take() else { return };
                let is_lacking =
                    |index: usize| lack.bits.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 == 1);
                let lacking = contents.iter().enumerate().filter(|(index, _)| is_lacking(*index));
                let mut frames = vec![(data::START, encode_body(&StreamStart::Contents).unwrap())];
                frames.extend(lacking.map(|(_, digest)| (data::HELD, encode_body(&held(*digest)).unwrap())));
                frames.push((data::END, Vec::new()));
                sender.asks(Asked::AllHeld, ());
                session.catch_up = Some(CatchUp::Holding);
                self.opens(number, &frames);
            }
            Ok(Heard::HeldAll(..)) => self.folds(number),
            // What the simulated primary does not ask for.
            Ok(Heard::Signed(..) | Heard::Swept(..)) => {}
            Ok(Heard::Heartbeat(_) | Heard::Revealed(_) | Heard::Audited(..)) => {}
            Err(error) => return self.ends(number, Side::Primary, &error.to_string()),
        }
        self.goes_on(number);
    }

    fn primary_greets(&mut self, number: usize, theirs: &Hello) {
        let (place, now) = (self.links[&number].primary, self.instant());
        let primary = &mut self.primaries[place];
        let Some(session) = primary.sessions.get_mut(&number) else { return };
        let judged = judge(&session.ours, theirs);
        if judged.is_ok() && !primary.peers.note_greeting(&theirs.node, number as u64) {
            return self.ends(number, Side::Primary, "a newer link greeted before");
        }
        let admitted = judged.and_then(|_| primary.peers.admit(&theirs.node, theirs.instance, now));
        if let Err(refused) = admitted {
            return self.refuses(number, Side::Primary, refused);
        }
        let (asks, asked) = tokio::sync::mpsc::channel(4);
        primary.peers.change(&theirs.node, |peer| {
            peer.asks = Some(asks);
            peer.stands_at(theirs.position);
        });
        session.sender = Some(Sender::new(theirs, now));
        session.asked = Some(asked);
        session.peer = Some(theirs.node.clone());
        note!(self, "link {number}: {} greets at {}", theirs.node, theirs.position);
        // Its older link gives way.
        let is_asked = |session: &mut Session| session.asked.as_mut().is_some_and(|asked| asked.try_recv().is_ok());
        let sessions = self.primaries[place].sessions.iter_mut();
        let older: Vec<usize> = sessions.filter_map(|(link, session)| is_asked(session).then_some(*link)).collect();
        older.into_iter().for_each(|link| self.ends(link, Side::Primary, "a new link"));
        self.goes_on(number);
    }

    /// Says why, and goes.
    pub(super) fn refuses(&mut self, number: usize, side: Side, refused: Refused) {
        let is_deposed = refused.why == RefusedWhy::Reign;
        let why = format!("refuses: {}", refused.text);
        self.tell(number, side.other(), &refused.into());
        assert!(is_deposed || self.primaries.len() > 1 || why.contains("two processes"), "{why}");
        self.ends(number, side, &why);
    }

    /// Starts what can be started.
    pub(super) fn goes_on(&mut self, number: usize) {
        let Some(link) = self.links.get(&number) else { return };
        let primary = &mut self.primaries[link.primary];
        let Some(session) = primary.sessions.get_mut(&number) else { return };
        let Some(sender) = session.sender.as_mut().filter(|sender| sender.may_send()) else { return };
        let next = match sender.wants_catch_up() {
            true => Next::CatchUp,
            false => primary.window.after(sender.head()),
        };
        match next {
            Next::Wait => {}
            Next::Shipment(shipment) => {
                sender.sends(shipment.header.position, shipment.header.chain());
                self.ships(number, &shipment);
            }
            Next::CatchUp if sender.is_idle() => {
                sender.catches_up();
                session.catch_up = Some(CatchUp::Comparing);
                self.stats.catch_ups += 1;
                self.view(number);
                self.lists(number);
            }
            Next::CatchUp => {}
        }
    }

    fn session(&mut self, number: usize) -> Option<(&mut Sender<()>, &mut Option<CatchUp>)> {
        let place = self.links.get(&number)?.primary;
        let session = self.primaries[place].sessions.get_mut(&number)?;
        Some((session.sender.as_mut()?, &mut session.catch_up))
    }

    /// A cut for a standby that is caught up.
    fn view(&mut self, number: usize) {
        if let Some(link) = self.links.get(&number) {
            let place = link.primary;
            self.cut(place, true);
        }
    }

    fn lists(&mut self, number: usize) {
        if let Some((sender, _)) = self.session(number) {
            sender.asks(Asked::List, ());
            self.tell(number, Side::Standby, &List { path: RelPath::root(), after: None }.into());
        }
    }

    fn listed(&mut self, number: usize, theirs: &Content) {
        let place = self.links[&number].primary;
        let ours = self.primaries[place].tree().clone();
        let Some((sender, catch_up)) = self.session(number) else { return };
        match catch_up.take() {
            Some(CatchUp::Comparing) => {
                let contents = ours.values_unlike(theirs);
                sender.asks(Asked::Have, ());
                *catch_up = Some(CatchUp::Asking(contents.clone()));
                self.tell(number, Side::Standby, &Have { contents }.into());
            }
            Some(CatchUp::Folding { view, tree }) => {
                let parent = sender.acked_head();
                sender.sent(view.0, view.1);
                let shipment = self.primaries[place].catch_up(parent, (view, &tree), theirs);
                self.ships(number, &shipment);
            }
            other => *catch_up = other,
        }
    }

    fn folds(&mut self, number: usize) {
        self.view(number);
        let primary = &self.primaries[self.links[&number].primary];
        let (view, tree) = (primary.head(), primary.tree().clone());
        if let Some((_, catch_up)) = self.session(number) {
            *catch_up = Some(CatchUp::Folding { view, tree });
            self.lists(number);
        }
    }

    fn ships(&mut self, number: usize, shipment: &Shipment) {
        let start = StreamStart::Generation { header: shipment.header.encode() };
        let mut frames = vec![(data::START, encode_body(&start).unwrap())];
        let operations = shipment.operations.all(&mut |operation| {
            frames.push((data::OPERATION, operation.to_vec()));
            Ok(())
        });
        operations.unwrap();
        frames.push((data::END, Vec::new()));
        note!(self, "link {number}: ships {} onto {}", shipment.header.position, shipment.header.parent);
        let is_twice = self.is_faulty && !self.is_calm && self.dice.one_in(15);
        self.opens(number, &frames);
        if is_twice {
            self.opens(number, &frames);
        }
        let after = self.dice.index(30) as u64;
        self.at(after, Event::Shipped(number));
    }

    /// A data stream of its own for `frames`; a faulty primary may have the next one overtake it.
    fn opens(&mut self, number: usize, frames: &[(u8, Vec<u8>)]) {
        let is_overtaken = self.is_faulty && !self.is_calm && self.dice.one_in(15);
        let Some(link) = self.links.get_mut(&number) else { return };
        if is_overtaken && link.held_back.is_none() {
            link.held_back = Some(frames.to_vec());
            return self.at(500, Event::Flush(number));
        }
        link.data.push(Default::default());
        let stream = Stream::Data(link.data.len() - 1);
        self.send(number, stream, frames);
        self.flush(number);
    }

    /// Sends what was to be overtaken.
    pub(super) fn flush(&mut self, number: usize) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if let Some(frames) = link.held_back.take() {
            link.data.push(Default::default());
            let stream = Stream::Data(link.data.len() - 1);
            self.send(number, stream, &frames);
        }
    }

    pub(super) fn shipped(&mut self, number: usize) {
        if let Some((sender, _)) = self.session(number) {
            sender.ended();
            self.goes_on(number);
        }
    }
}

fn held(digest: Digest) -> HeldContent {
    let payload = Payload { length: 0, unpacked: 0 };
    HeldContent {
        digest,
        size: 0,
        sparse: false,
        mode: 0o644,
        mtime: Timestamp::default(),
        payload,
        from: 0,
        base: None,
    }
}
