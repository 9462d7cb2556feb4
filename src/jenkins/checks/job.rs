//! A job as a copy shows it.

use std::collections::BTreeMap;

use super::Copy;
use crate::jenkins::plan::{Plan, Progress, progress_of};
use crate::jenkins::xml;

/// A job with a `config.xml`.
pub(super) struct SeenJob {
    /// Where it is.
    pub(super) path: String,
    pub(super) id: u32,
    steps: u32,
    pub(super) edits: u64,
    /// What `nextBuildNumber` says; `None` if that is no number.
    pub(super) next: Option<u64>,
    /// How far each build has come; `None` for one without a `build.xml`.
    pub(super) builds: BTreeMap<u64, Option<Progress>>,
}

impl SeenJob {
    /// The job in the directory `path`, if it has a configuration of a made home.
    pub(super) fn look(copy: &Copy, path: String) -> Option<Self> {
        let config = copy.text(&format!("{path}/config.xml"))?;
        let number = |name| xml::number(&config, name);
        let (id, steps) = (u32::try_from(number("id")?).ok()?, u32::try_from(number("steps")?).ok()?);
        let edits = number("edits")?;
        let next = copy.text(&format!("{path}/nextBuildNumber")).and_then(|text| text.parse().ok());
        let numbers = copy.names(&format!("{path}/builds")).into_iter().filter_map(|name| name.parse::<u64>().ok());
        let progress =
            |number: u64| copy.text(&format!("{path}/builds/{number}/build.xml")).map(|text| progress_of(&text));
        let builds = numbers.map(|number| (number, progress(number))).collect();
        Some(Self { path, id, steps, edits, next, builds })
    }

    /// All jobs, and the directories that are none.
    pub(super) fn all(copy: &Copy) -> (Vec<Self>, Vec<String>) {
        let (mut jobs, mut strange) = (Vec::new(), Vec::new());
        for path in copy.names("jobs").into_iter().map(|name| format!("jobs/{name}")) {
            match Self::look(copy, path.clone()) {
                Some(job) => jobs.push(job),
                None => strange.push(path),
            }
        }
        (jobs, strange)
    }

    pub(super) fn plan(&self, number: u64) -> Plan {
        Plan::of(self.id, self.steps, number)
    }

    pub(super) fn at(&self, number: u64) -> String {
        format!("{}/builds/{number}", self.path)
    }

    pub(super) fn is_final(&self, number: u64) -> bool {
        self.builds.get(&number) == Some(&Some(Progress::Final))
    }
}
