//! A survey of a home: what is in it, and what a filter leaves out of it, and why. Nothing is read but names and sizes.
//!
//! Memory holds the directories that wait, a few paths for each pattern, and a few of the warnings.

use std::collections::BTreeMap;

use crate::fs::{FileType, FsError, Root};
use crate::thought::filter::{Cause, Filter, jenkins};
use crate::words::path::RelPath;

/// How many paths are kept of each pattern: the largest.
const LARGEST: usize = 3;
/// How many warnings are kept.
const VITAL_CAP: usize = 20;

/// Entries, and the bytes of the files among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many.
    pub entries: u64,
    /// Their sizes, a file with several names counted for each.
    pub bytes: u64,
}

/// What one pattern leaves out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeftOut {
    /// All of it.
    pub total: Tally,
    /// The largest of the paths that it matched, with all that is below each.
    pub largest: Vec<(RelPath, Tally)>,
}

/// Something that a Jenkins home is not whole without, and that a person's pattern leaves out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vital {
    /// Where.
    pub path: RelPath,
    /// Of what it is a part.
    pub what: &'static str,
    /// The pattern.
    pub pattern: String,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// What is replicated, the home itself included.
    pub replicated: Tally,
    /// The directories among that: so many watches are needed.
    pub directories: u64,
    /// What is left out, by pattern; temporaries under [`TEMPORARIES`].
    pub left_out: BTreeMap<String, LeftOut>,
    /// The first of what should not be left out.
    pub vital: Vec<Vital>,
    /// How much of that there is.
    pub vital_count: u64,
    /// Directories and files that could not be looked at.
    pub unreadable: u64,
}

/// Under what temporaries stand in [`Survey::left_out`].
pub const TEMPORARIES: &str = "temporaries of Jenkins";

impl Survey {
    /// Goes through all of `root`. `warns` says whether a pattern is a person's, for which what a Jenkins home is not whole without is looked for.
    pub fn of(root: &Root, filter: &Filter, warns: &dyn Fn(&str) -> bool) -> Result<Self, FsError> {
        let mut survey = Self { replicated: Tally { entries: 1, bytes: 0 }, directories: 1, ..Self::default() };
        root.list(&RelPath::root())?;
        let mut below = vec![RelPath::root()];
        while let Some(directory) = below.pop() {
            for (path, is_directory, bytes) in survey.children(root, &directory) {
                match filter.cause(&path, is_directory) {
                    None => {
                        survey.replicated.add(bytes);
                        if is_directory {
                            survey.directories += 1;
                            below.push(path);
                        }
                    }
                    Some(Cause::Reserved) => {}
                    Some(Cause::Temporary) => survey.leave_out(root, path, bytes, is_directory, TEMPORARIES, false),
                    Some(Cause::Pattern(pattern)) => {
                        survey.leave_out(root, path, bytes, is_directory, pattern, warns(pattern));
                    }
                }
            }
        }
        Ok(survey)
    }

    /// The children of `directory`: path, whether it is a directory, size of a file.
    fn children(&mut self, root: &Root, directory: &RelPath) -> Vec<(RelPath, bool, u64)> {
        let opened = root.enter(directory).and_then(|opened| Ok((opened.list(&RelPath::root())?, opened)));
        let Ok((names, opened)) = opened else {
            self.unreadable += 1;
            return Vec::new();
        };
        let mut children = Vec::new();
        for (name, _) in names {
            match opened.stat(&RelPath::root().join(&name)) {
                Ok(Some(stat)) => {
                    let bytes = if stat.what == FileType::File { stat.size } else { 0 };
                    children.push((directory.join(&name), stat.is_directory(), bytes));
                }
                Ok(None) => {}
                Err(_) => self.unreadable += 1,
            }
        }
        children
    }

    fn leave_out(&mut self, root: &Root, top: RelPath, bytes: u64, is_directory: bool, pattern: &str, warns: bool) {
        let mut tally = Tally::default();
        let mut look = |survey: &mut Self, path: &RelPath, bytes| {
            tally.add(bytes);
            let Some(what) = jenkins::vital(path).filter(|_| warns) else { return };
            survey.vital_count += 1;
            if survey.vital.len() < VITAL_CAP {
                survey.vital.push(Vital { path: path.clone(), what, pattern: pattern.to_owned() });
            }
        };
        look(self, &top, bytes);
        let mut below: Vec<RelPath> = is_directory.then(|| top.clone()).into_iter().collect();
        while let Some(directory) = below.pop() {
            for (path, is_directory, bytes) in self.children(root, &directory) {
                look(self, &path, bytes);
                if is_directory {
                    below.push(path);
                }
            }
        }
        let known = self.left_out.entry(pattern.to_owned()).or_default();
        known.total.entries += tally.entries;
        known.total.bytes += tally.bytes;
        known.largest.push((top, tally));
        known.largest.sort_by_key(|(path, tally)| (std::cmp::Reverse((tally.bytes, tally.entries)), path.clone()));
        known.largest.truncate(LARGEST);
    }
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }
}
