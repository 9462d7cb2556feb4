mod damage;
mod format;
mod power;
mod rules;
mod sim;

use sim::Sim;

use super::{JournalError, Kept, Log, Record, RecordKind, Recovered, State};
use crate::thought::dice::Dice;
use crate::words::position::{HomeId, Position};

const HOME: HomeId = HomeId([7; 16]);
/// Small, so that a short story has many.
const SEGMENT: u64 = 900;

fn at(generation: u64) -> Position {
    Position { epoch: 3, generation }
}

fn record(kind: RecordKind, generation: u64, payload: &[u8]) -> Record {
    Record { kind, position: at(generation), payload: payload.to_vec() }
}

fn open(sim: &Sim) -> Result<(Log, Recovered), JournalError> {
    Log::open_on(Box::new(sim.clone()), HOME, SEGMENT)
}

/// What was done to a log, and how much of it is known durable.
#[derive(Default, Clone)]
struct Told {
    records: Vec<Record>,
    synced: usize,
    /// Generations up to here may be gone if they are finished.
    pruned: u64,
}

impl Told {
    fn append(&mut self, log: &mut Log, kind: RecordKind, generation: u64, payload: &[u8]) -> Result<(), JournalError> {
        let record = record(kind, generation, payload);
        self.records.push(record.clone());
        log.append(&record).map(drop)
    }

    fn sync(&mut self, log: &mut Log) -> Result<(), JournalError> {
        log.sync()?;
        self.synced = self.records.len();
        Ok(())
    }

    /// The life of ten generations: some dropped and staged again, some parts larger than a segment, some pruning.
    fn live(&mut self, log: &mut Log) -> Result<(), JournalError> {
        let mut dice = Dice::new(0x5eed);
        for generation in 1..=10 {
            let rounds = if generation % 4 == 2 { 2 } else { 1 };
            for round in 0..rounds {
                for part in 0..=(generation % 3) {
                    let length = if generation == 5 { 1500 } else { usize::try_from(dice.roll() % 220).unwrap() };
                    let part = u32::try_from(part).unwrap();
                    self.append(log, RecordKind::Staged { part }, generation, &vec![0xa5; length])?;
                }
                if round + 1 < rounds {
                    self.append(log, RecordKind::Dropped, generation, b"")?;
                }
            }
            self.sync(log)?;
            self.append(log, RecordKind::Acked, generation, b"chain")?;
            self.sync(log)?;
            if generation > 2 {
                self.append(log, RecordKind::Revealed, generation - 2, b"")?;
                self.append(log, RecordKind::Done, generation - 2, b"")?;
            }
            if generation % 3 == 0 {
                self.sync(log)?;
                self.pruned = generation - 3;
                log.prune(at(self.pruned))?;
                self.synced = self.records.len();
            }
        }
        Ok(())
    }

    /// The generations after the first `count` records: position, state, payloads.
    fn generations(&self, count: usize) -> Vec<(Position, State, Vec<Vec<u8>>)> {
        let mut generations: Vec<(Position, State, Vec<Vec<u8>>)> = Vec::new();
        for record in &self.records[..count] {
            if record.kind == (RecordKind::Staged { part: 0 }) {
                generations.retain(|(position, ..)| *position != record.position);
                generations.push((record.position, State::Staging, Vec::new()));
            }
            let known = generations.iter_mut().find(|(position, ..)| *position == record.position);
            let (_, state, parts) = known.unwrap();
            match record.kind {
                RecordKind::Staged { .. } => parts.push(record.payload.clone()),
                RecordKind::Acked => *state = State::Acked,
                RecordKind::Revealed => *state = State::Revealed,
                RecordKind::Done => *state = State::Done,
                RecordKind::Dropped => *state = State::Dropped,
            }
        }
        generations
    }

    /// How many records `recovered` shows: the longest prefix that explains it, at least `least`.
    fn explains(&self, log: &Log, recovered: &Recovered, least: usize) -> Option<usize> {
        (least..=self.records.len()).rev().find(|&count| self.is(log, recovered, count))
    }

    fn is(&self, log: &Log, recovered: &Recovered, count: usize) -> bool {
        let parts = |kept: &Kept| kept.parts.iter().map(|part| log.read(part).unwrap()).collect::<Vec<_>>();
        let mut found = recovered.generations.iter().map(|kept| (kept.position, kept.state, parts(kept))).peekable();
        for (position, state, parts) in self.generations(count) {
            let may_be_pruned = state.is_finished() && position <= at(self.pruned);
            match found.peek() {
                Some((p, s, found_parts)) if *p == position && *s == state => {
                    if *found_parts != parts {
                        return false;
                    }
                    found.next();
                }
                _ if may_be_pruned => {}
                _ => return false,
            }
        }
        found.next().is_none()
    }
}
