//! What befalls links and nodes, while it is not calm.

use super::*;

impl World {
    pub(super) fn trouble(&mut self) {
        if self.is_calm {
            return;
        }
        let next = 50 + self.dice.index(1200) as u64;
        self.at(next, Event::Trouble);
        let standby = self.dice.index(self.standbys.len());
        let primary = self.dice.index(self.primaries.len());
        let link = self.links.keys().copied().nth(self.dice.index(self.links.len().max(1)));
        match self.dice.index(20) {
            0..=3 => {
                let Some(link) = link else { return };
                self.stats.cut_links += 1;
                // Both learn of it, each in its own time; what is under way may or may not arrive before.
                for side in [Side::Primary, Side::Standby] {
                    let after = self.dice.index(100) as u64;
                    self.at(after, Event::Closed(link, side));
                }
            }
            4..=7 => {
                let (Some(link), now) = (link, self.now) else { return };
                self.stats.cut_links += 1;
                let long = Duration::from_millis(200 + self.dice.index(12_000) as u64);
                let sides = self.dice.index(3);
                let Some(link) = self.links.get_mut(&link) else { return };
                for side in [Side::Primary, Side::Standby].into_iter().enumerate().filter(|(n, _)| *n != sides) {
                    link.go_dark(side.1, now, long);
                }
            }
            8..=11 => self.standby_crashes(standby),
            12 => {
                // Its disk is replaced by one that has an old copy, of which nothing is known.
                self.standby_crashes(standby);
                let standby = &mut self.standbys[standby];
                standby.disk =
                    Disk { replica: standby.disk.replica.clone(), revealed: standby.disk.revealed, ..Disk::default() };
                standby.told = None;
                self.has_lost_a_disk = true;
            }
            13..=15 => self.primary_ends(primary, false),
            16 => self.primary_ends(primary, true),
            17 if self.primaries.len() == 1 => self.promotes(),
            18 if self.primaries.len() == 2 => {
                // Whoever was deposed hears of it, and tells its standbys.
                let reign = self.primaries.iter().map(|primary| primary.reign).max_by_key(|reign| reign.epoch);
                let sessions: Vec<usize> = self.primaries[primary].sessions.keys().copied().collect();
                for link in sessions {
                    if let Some(reign) = reign {
                        self.tell(link, Side::Standby, &Deposed { reign }.into());
                    }
                }
            }
            _ => {}
        }
    }

    fn standby_crashes(&mut self, number: usize) {
        let is_kept = self.dice.one_in(2);
        let standby = &mut self.standbys[number];
        if !standby.is_up {
            return;
        }
        note!(self, "{} crashes", standby.name);
        self.stats.crashes += 1;
        let link = standby.link.as_ref().map(|link| link.number);
        standby.crash(is_kept);
        if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
            link.is_open[Side::Standby as usize] = false;
        }
        let after = 50 + self.dice.index(6000) as u64;
        self.at(after, Event::Starts(Side::Standby, number));
    }

    fn primary_ends(&mut self, number: usize, is_in_order: bool) {
        let (keeps_index, acks_are_late) = (!self.dice.one_in(4), self.dice.one_in(2));
        let primary = &mut self.primaries[number];
        if !primary.is_up {
            return;
        }
        note!(self, "{} {}", primary.name, if is_in_order { "ends" } else { "crashes" });
        self.stats.crashes += u64::from(!is_in_order);
        if !acks_are_late {
            primary.acks = primary.peers.acks();
        }
        let links: Vec<usize> = primary.sessions.keys().copied().collect();
        for link in links {
            if is_in_order {
                self.ends(link, Side::Primary, "the primary ends");
            } else if let Some(link) = self.links.get_mut(&link) {
                // Nobody tells the standby.
                link.is_open[Side::Primary as usize] = false;
            }
        }
        self.primaries[number].end(is_in_order, keeps_index);
        let after = 50 + self.dice.index(4000) as u64;
        if !self.is_calm {
            self.at(after, Event::Starts(Side::Primary, number));
        }
    }

    /// Another node becomes primary, with the home of the first, while that one goes on.
    fn promotes(&mut self) {
        let first = &self.primaries[0];
        let mut memory = first.memory.clone();
        memory.ended_at = None;
        let second = Primary::new("primary-1", memory, first.home.clone());
        self.primaries.push(second);
        for standby in &mut self.standbys {
            standby.places.push(Patience::new(self.start + self.now));
        }
        note!(self, "primary-1 is promoted");
        self.at(0, Event::Starts(Side::Primary, 1));
        self.at(10, Event::Write(1));
        self.at(20, Event::Cut(1));
    }

    /// No more trouble, and one primary: the second, if there is one, in a reign above all others.
    pub(in super::super) fn calm(&mut self) {
        self.is_calm = true;
        let last = self.primaries.len() - 1;
        if last > 0 {
            self.primary_ends(0, false);
            self.primary_ends(last, false);
            let known = self.standbys.iter().filter_map(|standby| standby.memory.reign());
            let highest =
                known.chain(self.primaries.iter().map(|primary| primary.reign)).max_by_key(|reign| reign.epoch);
            let memory = &mut self.primaries[last].memory;
            memory.ended_at = None;
            highest.map(|highest| memory.learn(highest));
        }
        self.at(0, Event::Starts(Side::Primary, last));
        (0..self.standbys.len()).for_each(|standby| self.at(0, Event::Starts(Side::Standby, standby)));
    }
}
