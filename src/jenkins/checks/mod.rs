//! The checks: what a copy of a home under load may not show.
//!
//! Each writer waits for one system call before it makes the next. So whatever a crash of the machine would leave, and thus whatever a
//! `consistent` generation may show, is all of a writer's calls up to some one of them, that one in part if it is a write. The rules that follow from
//! the order of calls hold then, and only then: [`Promise::Instant`]. Others follow from what is done to one file alone, and hold in every generation,
//! `fuzzy` or not, as each file of one is what that file once was: [`Promise::Whole`].
//!
//! | rule | what may be | and what may not, because |
//! |---|---|---|
//! | `temporary` | | a name that Jenkins gives to what is not finished: the filter leaves it out, the rename brings it in |
//! | `xml` | `workflow/flowNodeStore.xml` of a build that runs, in part | a part of any other: it was whole before it had its name |
//! | `log` | the beginning of what the build will say | anything else: it is only appended to |
//! | `secret` | | a key that does not open: nobody rewrites it |
//! | `program` | | a `program.dat` that cannot be loaded: it is saved atomically |
//! | `job` | either name of a job that is renamed | both, or none, or no `config.xml`: the rename is one call |
//! | `next-build` | a number spent on a build that is not there yet | a build with a number not spent, or two spent and not there |
//! | `builds` | a build on its way out of sight: `.N`, which is left out | a gap in the numbers, or an older build that has not ended: one ends before the next begins, and the oldest goes first |
//! | `order` | each state of a build between two calls | a later file without an earlier one: log, `build.xml`, flow nodes, `program.dat`, in this order; at the end the flow nodes in one file, which then may lack in `workflow/` |
//! | `finished` | | a finished build without its whole log, its flow nodes or its fingerprint |
//! | `permalinks` | the last build or the one before | one that has not ended: it is saved after that |
//! | `counters` | the first one ahead by one; either one written in part | the second ahead |
//! | `token` | any one holder | none or two: the rename is one call |
//! | `swap` | `near` or `far` gone and `between` there | `left` or `right` gone, one of them twice, or mixed members: the exchange is one call |
//! | `notes` | the beginning of the new, the rest of the old | anything else: they are written from the beginning |
//! | `age` | more than the ledger says | less than it said before all was acked |

mod age;
mod builds;
mod instruments;
mod job;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;

/// What a copy of a home is said to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Promise {
    /// Each file is what that file once was.
    Whole,
    /// All of it was there at one instant.
    Instant,
}

/// A rule; the module's table says what each means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "the module's table says it of each")]
pub enum Rule {
    Temporary,
    Xml,
    Log,
    Secret,
    Program,
    Job,
    NextBuild,
    Builds,
    Order,
    Finished,
    Permalinks,
    Counters,
    Token,
    Swap,
    Notes,
    Age,
}

impl Rule {
    /// What a copy must be for the rule to hold.
    pub fn promise(self) -> Promise {
        match self {
            Self::Temporary | Self::Xml | Self::Log | Self::Secret | Self::Program | Self::Age => Promise::Whole,
            _ => Promise::Instant,
        }
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Temporary => "temporary",
            Self::Xml => "xml",
            Self::Log => "log",
            Self::Secret => "secret",
            Self::Program => "program",
            Self::Job => "job",
            Self::NextBuild => "next-build",
            Self::Builds => "builds",
            Self::Order => "order",
            Self::Finished => "finished",
            Self::Permalinks => "permalinks",
            Self::Counters => "counters",
            Self::Token => "token",
            Self::Swap => "swap",
            Self::Notes => "notes",
            Self::Age => "age",
        }
    }
}

/// A rule that a copy breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Where, in the home.
    pub path: String,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.rule.word(), self.path, self.what)
    }
}

/// What is wrong with the copy at `home`, which must stand still meanwhile.
pub fn check(home: &Path, promise: Promise) -> Vec<Violation> {
    let copy = Copy(home.to_owned());
    let mut found = Found { promise, violations: Vec::new() };
    whole::check(&copy, &mut found);
    builds::check(&copy, &mut found);
    instruments::check(&copy, &mut found);
    found.violations
}

/// What is missing in the copy at `home` of what `ledger` says was done.
pub fn check_age(home: &Path, ledger: &Ledger, promise: Promise) -> Vec<Violation> {
    let mut found = Found { promise, violations: Vec::new() };
    age::check(&Copy(home.to_owned()), ledger, &mut found);
    found.violations
}

/// The violations so far of the rules that are asked for.
struct Found {
    promise: Promise,
    violations: Vec<Violation>,
}

impl Found {
    fn add(&mut self, rule: Rule, path: &str, what: impl Into<String>) {
        if rule.promise() <= self.promise {
            self.violations.push(Violation { rule, path: path.to_owned(), what: what.into() });
        }
    }

    fn add_if(&mut self, is_broken: bool, rule: Rule, path: &str, what: impl FnOnce() -> String) {
        if is_broken {
            self.add(rule, path, what());
        }
    }
}

/// The copy that is looked at.
struct Copy(PathBuf);

impl Copy {
    fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.0.join(path)).ok()
    }

    fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.bytes(path)?).ok()
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).symlink_metadata().is_ok()
    }

    /// What is in the directory `path`, sorted; nothing if it is not there.
    fn names(&self, path: &str) -> Vec<String> {
        let listing = fs::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = listing.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}
