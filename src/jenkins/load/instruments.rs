//! A writer's own instruments, played.

use std::fs;
use std::path::Path;

use super::LoadError;
use crate::jenkins::instruments::{
    COUNTERS, HOLDERS, MEMBERS, NOTES_SPAN, SWAPS, TOKENS, count, directory, note_versions, notes,
};
use crate::jenkins::ledger::InstrumentFacts;
use crate::jenkins::pen::{Pen, PenError};
use crate::thought::dice::Dice;

/// The instruments of one writer.
pub(super) struct Instruments {
    at: String,
    facts: InstrumentFacts,
    /// Which holder has each token.
    holders: [usize; TOKENS.len()],
}

impl Instruments {
    /// Those that an earlier load left, or new ones.
    pub(super) fn open(home: &Path, writer: u32, pen: &mut Pen<'_>) -> Result<Self, LoadError> {
        let at = directory(writer);
        if !home.join(&at).exists() {
            Self::make(pen, &at)?;
        }
        let strange = |what| LoadError::Strange { what, path: home.join(&at) };
        let counter = fs::read_to_string(home.join(&at).join(COUNTERS[0]).join("count")).unwrap_or_default();
        let counter = counter.parse().map_err(|_| strange("a counter is no number"))?;
        let versions = note_versions(&fs::read(home.join(&at).join("notes")).unwrap_or_default());
        let version = *versions.first().ok_or(strange("the notes have no version"))?;
        let mut holders = [0; TOKENS.len()];
        for (holder, token) in holders.iter_mut().zip(TOKENS) {
            let found = HOLDERS.iter().position(|name| home.join(&at).join(name).join(token).exists());
            *holder = found.ok_or(strange("a token is nowhere"))?;
        }
        Ok(Self { at, facts: InstrumentFacts { writer, count: counter, notes: version }, holders })
    }

    /// They come into sight whole, by one rename.
    fn make(pen: &mut Pen<'_>, at: &str) -> Result<(), PenError> {
        let aside = format!("{at}-atomic0tmp");
        for holder in HOLDERS {
            pen.create_directories(&format!("{aside}/{holder}"))?;
        }
        for counter in COUNTERS {
            pen.create(&format!("{aside}/{counter}/count"), count(0))?;
        }
        for token in TOKENS {
            let path = format!("{aside}/{}/{token}", HOLDERS[0]);
            pen.create_directories(path.rsplit_once('/').map_or("", |(directory, _)| directory))?;
            pen.create(&path, format!("the one {token}\n"))?;
        }
        for place in SWAPS.iter().flat_map(|(one, other, _)| [one, other]) {
            pen.create_directory(&format!("{aside}/{place}"))?;
            for member in MEMBERS {
                pen.create(&format!("{aside}/{place}/{member}"), place)?;
            }
        }
        pen.create(&format!("{aside}/notes"), notes(0))?;
        pen.rename(&aside, at)
    }

    pub(super) fn facts(&self) -> InstrumentFacts {
        self.facts
    }

    /// Plays one of them.
    pub(super) fn step(&mut self, pen: &mut Pen<'_>, dice: &mut Dice) -> Result<(), PenError> {
        let at = self.at.clone();
        match dice.below(8) {
            0..3 => {
                let next = count(self.facts.count + 1);
                COUNTERS.iter().try_for_each(|name| pen.overwrite(&format!("{at}/{name}/count"), next.as_bytes()))?;
                self.facts.count += 1;
                Ok(())
            }
            3 | 4 => {
                let which = usize::from(dice.below(2) == 1);
                let (from, to) = (self.holders[which], (self.holders[which] + 1) % HOLDERS.len());
                // The directory, where the token is in one.
                let name = TOKENS[which].split('/').next().unwrap_or_default();
                pen.rename(&format!("{at}/{}/{name}", HOLDERS[from]), &format!("{at}/{}/{name}", HOLDERS[to]))?;
                self.holders[which] = to;
                Ok(())
            }
            5 => SWAPS.iter().try_for_each(|(one, other, between)| {
                let [one, other] = [one, other].map(|name| format!("{at}/{name}"));
                let Some(between) = between else { return pen.exchange(&one, &other) };
                let between = format!("{at}/{between}");
                pen.rename(&one, &between)?;
                pen.rename(&other, &one)?;
                pen.rename(&between, &other)
            }),
            _ => {
                let (path, version) = (format!("{at}/notes"), self.facts.notes + 1);
                if version.is_multiple_of(NOTES_SPAN) {
                    pen.save(&path, notes(version))?;
                } else {
                    pen.overwrite(&path, notes(version).as_bytes())?;
                }
                self.facts.notes = version;
                Ok(())
            }
        }
    }
}
