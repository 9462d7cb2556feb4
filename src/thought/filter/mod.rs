//! Which paths are replicated: gitignore patterns, anchored at the home, by the `ignore` crate.
//!
//! The order is: what the preset leaves out, then `exclude`, then `include`; the last pattern that matches decides. As in a `.gitignore`,
//! nothing below a directory that is left out can be taken in again: such a directory is neither watched, walked nor deleted on a
//! standby.
//!
//! What no glob can say exactly ("digits, then `tmp`") the preset `jenkins` leaves out by [`jenkins::is_temporary`]; it comes before all
//! patterns, so an `include` brings such a name back.
//!
//! **A filter that changes** costs what differs. What it has come to leave out the primary's tree lets go at the next start, and a
//! standby's tree with the next generation ([`Action::Forget`](crate::thought::generation::Action::Forget)); on the standby's disk it stays, and goes
//! only with a directory above it. What it has come to take in is new, and what a standby still has there is put aside.
//!
//! **Rules.** What a filter is made of, in the form in which a primary tells it to its standbys: [`Rules`]. Two filters with equal rules
//! decide alike in every version of the program; their digest is what a hello and a generation name.

pub mod jenkins;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// The most patterns a filter has, the preset's included.
pub const RULES_CAP: usize = 1000;
/// The most bytes all patterns of a filter have together.
pub const RULES_CAP_BYTES: usize = 64 * 1024;

/// A named set of patterns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// What a Jenkins home holds that a spare does not need: see [`jenkins`].
    #[default]
    Jenkins,
    /// Nothing is left out.
    None,
}

/// What a filter is made of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// True if the temporaries of Jenkins are left out, unless a pattern says otherwise.
    pub temporaries: bool,
    /// Lines in gitignore syntax; the last that matches decides.
    pub patterns: Vec<String>,
}

impl Rules {
    /// Puts together a preset and a person's own patterns.
    pub fn new(preset: Preset, exclude: &[String], include: &[String]) -> Self {
        let preset: &[&str] = match preset {
            Preset::Jenkins => jenkins::PATTERNS,
            Preset::None => &[],
        };
        let patterns = preset.iter().map(ToString::to_string).chain(exclude.iter().cloned());
        let patterns = patterns.chain(include.iter().map(|pattern| format!("!{pattern}"))).collect();
        Self { temporaries: !preset.is_empty(), patterns }
    }

    fn digest(&self) -> Digest {
        let temporaries = if self.temporaries { "temporaries\n" } else { "" };
        Digest::of([temporaries, &self.patterns.join("\n")].concat().as_bytes())
    }
}

/// Rules that make no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A pattern that cannot be read.
    #[error("{pattern:?} is no gitignore pattern: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// All patterns together cannot be compiled.
    #[error("the patterns are too much together: {0}")]
    Together(String),
    /// There are more than a filter may have.
    #[error("more than {RULES_CAP} patterns, or than {RULES_CAP_BYTES} bytes of them, are no filter")]
    TooMany,
}

/// Why a path is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause<'a> {
    /// It is `.hotspare`, or in it.
    Reserved,
    /// A pattern, as it was written.
    Pattern(&'a str),
    /// It is a temporary of Jenkins.
    Temporary,
}

/// Decides which paths are replicated.
#[derive(Clone, Debug)]
pub struct Filter {
    patterns: Gitignore,
    rules: Rules,
}

impl Filter {
    /// Puts together a preset and a person's own patterns.
    pub fn new(preset: Preset, exclude: &[String], include: &[String]) -> Result<Self, FilterError> {
        Self::of(Rules::new(preset, exclude, include))
    }

    /// The filter that `rules` make.
    pub fn of(rules: Rules) -> Result<Self, FilterError> {
        let bytes: usize = rules.patterns.iter().map(String::len).sum();
        if rules.patterns.len() > RULES_CAP || bytes > RULES_CAP_BYTES {
            return Err(FilterError::TooMany);
        }
        let mut builder = GitignoreBuilder::new("");
        for pattern in &rules.patterns {
            let failed =
                |error: ignore::Error| FilterError::Pattern { pattern: pattern.clone(), reason: error.to_string() };
            builder.add_line(None, pattern).map_err(failed)?;
        }
        let patterns = builder.build().map_err(|error| FilterError::Together(error.to_string()))?;
        Ok(Self { patterns, rules })
    }

    /// Leaves out nothing but `.hotspare`.
    pub fn everything() -> Self {
        Self { patterns: Gitignore::empty(), rules: Rules::default() }
    }

    /// True if `path` itself is left out; what is above it is not looked at.
    pub fn leaves_out(&self, path: &RelPath, is_directory: bool) -> bool {
        self.cause(path, is_directory).is_some()
    }

    /// Why `path` itself is left out; `None` if it is not.
    pub fn cause(&self, path: &RelPath, is_directory: bool) -> Option<Cause<'_>> {
        if path.is_root() || path.is_reserved() {
            return path.is_reserved().then_some(Cause::Reserved);
        }
        match self.patterns.matched(os_path(path), is_directory) {
            Match::Ignore(glob) => Some(Cause::Pattern(glob.original())),
            Match::Whitelist(_) => None,
            Match::None => (self.rules.temporaries && jenkins::is_temporary(path)).then_some(Cause::Temporary),
        }
    }

    /// True if `path`, or a directory above it, is left out.
    pub fn leaves_out_within(&self, path: &RelPath, is_directory: bool) -> bool {
        if self.leaves_out(path, is_directory) {
            return true;
        }
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            if self.leaves_out(&directory, true) {
                return true;
            }
            above = directory.parent();
        }
        false
    }

    /// What it is made of.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What tells one filter from another.
    pub fn digest(&self) -> Digest {
        self.rules.digest()
    }
}

fn os_path(path: &RelPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}
