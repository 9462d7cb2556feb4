//! What a copy must have, as a ledger said before it was acked: `age`.

use super::instruments::directories;
use super::job::SeenJob;
use super::{Copy, Found, Promise, Rule};
use crate::jenkins::instruments::{COUNTERS, note_versions};
use crate::jenkins::ledger::{JobFacts, Ledger};

pub(super) fn check(copy: &Copy, ledger: &Ledger, found: &mut Found) {
    let jobs = SeenJob::all(copy).0;
    for facts in &ledger.jobs {
        match jobs.iter().find(|job| job.id == facts.id) {
            Some(job) => of_job(copy, job, facts, found),
            // In a generation that is not of one instant a rename may have passed by.
            None if found.promise == Promise::Instant => {
                found.add(Rule::Age, "jobs", format!("job {} is nowhere", facts.id))
            }
            None => {}
        }
    }
    let there = directories(copy);
    for facts in &ledger.instruments {
        let Some((_, at)) = there.iter().find(|(writer, _)| *writer == facts.writer) else {
            found.add(Rule::Age, "userContent", format!("writer {} has no instruments", facts.writer));
            continue;
        };
        let count = copy.text(&format!("{at}/{}/count", COUNTERS[0])).and_then(|text| text.parse::<u64>().ok());
        behind(found, at, "count", count, facts.count);
        let notes = copy.bytes(&format!("{at}/notes")).map(|text| note_versions(&text)).unwrap_or_default();
        behind(found, at, "notes", notes.into_iter().max(), facts.notes);
    }
}

/// What says nothing, other rules judge.
fn behind(found: &mut Found, path: &str, what: &str, is: Option<u64>, was: u64) {
    found.add_if(is.is_some_and(|is| is < was), Rule::Age, path, || format!("{what} is {is:?}, and was {was}"));
}

fn of_job(copy: &Copy, job: &SeenJob, facts: &JobFacts, found: &mut Found) {
    behind(found, &job.path, "nextBuildNumber", job.next, facts.next);
    behind(found, &job.path, "edits of config.xml", Some(job.edits), facts.edits);
    let is_discarded = |number: u64| job.builds.keys().next().is_some_and(|oldest| *oldest > number);
    let finished = facts.finished;
    let has_ended = finished == 0 || job.is_final(finished) || is_discarded(finished);
    found.add_if(!has_ended, Rule::Age, &job.at(finished), || "had ended".into());
    let running = facts.finished + 1;
    if facts.log > 0 && !job.is_final(running) && !is_discarded(running) {
        let said = copy.bytes(&format!("{}/log", job.at(running))).map_or(0, |log| log.len() as u64);
        behind(found, &job.at(running), "log", Some(said), facts.log);
    }
}
