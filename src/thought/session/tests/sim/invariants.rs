//! What must hold after every event, one function for each guarantee as far as it can be seen between two sessions.

use super::world::World;
use crate::thought::session::sender::UNDER_WAY_CAP;

impl World {
    /// All of them.
    pub(super) fn check(&self) -> Result<(), String> {
        self.invariant_atomic()?;
        self.invariant_durable()?;
        self.invariant_equal()?;
        self.invariant_one_writer()?;
        self.invariant_no_false_alarm()?;
        self.invariant_bounded()
    }

    /// G1: every replica is, at every moment, exactly a state that a history passed through.
    fn invariant_atomic(&self) -> Result<(), String> {
        for standby in &self.standbys {
            let disk = &standby.disk;
            if self.states.get(&disk.revealed) != Some(&disk.replica) {
                return Err(format!("G1: {} shows {:?}, which is no generation", standby.name, disk.replica));
            }
        }
        Ok(())
    }

    /// G2: what a standby said is acked would be there after a loss of power now.
    fn invariant_durable(&self) -> Result<(), String> {
        for standby in &self.standbys {
            if standby.told.is_some_and(|told| !standby.disk.history.contains(&told)) {
                return Err(format!("G2: {} said it has acked what its disk has not", standby.name));
            }
        }
        Ok(())
    }

    /// G4: where a primary believes that a standby has its newest generation, the standby has that very content.
    fn invariant_equal(&self) -> Result<(), String> {
        for primary in self.primaries.iter().filter(|primary| primary.is_up) {
            for session in primary.sessions.values() {
                let (Some(sender), Some(peer)) = (&session.sender, &session.peer) else { continue };
                let Some(standby) = self.standbys.iter().find(|standby| standby.name == *peer) else { continue };
                let is_theirs = standby.disk.standing == sender.acked_head();
                if is_theirs && sender.acked_head() == primary.head() && standby.disk.content() != *primary.tree() {
                    return Err(format!("G4: {peer} is taken for equal at {} and is not", primary.position));
                }
            }
        }
        Ok(())
    }

    /// G5: what a standby has written to its journal is of the highest reign it knows, and was made from the state it is at.
    fn invariant_one_writer(&self) -> Result<(), String> {
        for standby in &self.standbys {
            let Some(written) = &standby.written else { continue };
            let (header, known) = (&written.header, standby.memory.reign());
            if known.is_none_or(|known| (known.id, known.epoch) != (header.reign, header.position.epoch)) {
                return Err(format!("G5: {} takes {} and knows {known:?}", standby.name, header.position));
            }
            if header.parent_chain != standby.disk.standing.1 {
                return Err(format!("G5: {} takes {} onto another state", standby.name, header.position));
            }
        }
        Ok(())
    }

    /// G6, as far as it is seen here: nobody says that a standby lost what it acked, unless it did.
    fn invariant_no_false_alarm(&self) -> Result<(), String> {
        let told: Vec<String> = self.primaries.iter().flat_map(|primary| primary.peers.went_back()).collect();
        if told.is_empty() || self.has_lost_a_disk { Ok(()) } else { Err(format!("G6: a false alarm: {told:?}")) }
    }

    /// G9: what is kept for others has its bounds, however slow or gone they are.
    fn invariant_bounded(&self) -> Result<(), String> {
        for primary in &self.primaries {
            let taken = primary.window.taken();
            if taken.memory_bytes > 2 * 40 && taken.generations > 1 {
                return Err(format!("G9: the window has {taken:?}"));
            }
            if primary.sessions.len() > 4 * self.standbys.len() {
                return Err(format!("G9: {} sessions for {} standbys", primary.sessions.len(), self.standbys.len()));
            }
        }
        for standby in &self.standbys {
            if standby.disk.journal.len() > UNDER_WAY_CAP {
                return Err(format!("G9: {} has {} generations unrevealed", standby.name, standby.disk.journal.len()));
            }
        }
        Ok(())
    }

    /// G4: once there was peace for long enough, every standby is equal to the one primary, at its position.
    pub(super) fn demand_convergence(&self) -> Result<(), String> {
        let primary = self.primaries.last().ok_or("no primary")?;
        for standby in &self.standbys {
            let (position, chain) = standby.disk.standing;
            if standby.disk.replica != primary.home || (position, chain) != primary.head() {
                let (name, head) = (&standby.name, primary.position);
                return Err(format!("G4: {name} stands at {position}, and {} at {head}", primary.name));
            }
        }
        Ok(())
    }
}
