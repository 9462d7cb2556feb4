//! What the order of calls says of jobs and builds: `job`, `next-build`, `builds`, `order`, `finished`, `permalinks`.

use std::collections::BTreeMap;

use super::job::SeenJob;
use super::{Copy, Found, Rule};
use crate::jenkins::plan::{Kind, Plan, Progress, heads_of};

pub(super) fn check(copy: &Copy, found: &mut Found) {
    let (jobs, strange) = SeenJob::all(copy);
    for path in strange {
        found.add(Rule::Job, &path, "has no config.xml");
    }
    let mut by_id: BTreeMap<u32, &str> = BTreeMap::new();
    for job in &jobs {
        if let Some(other) = by_id.insert(job.id, &job.path) {
            found.add(Rule::Job, &job.path, format!("is {other} as well"));
        }
        numbers(job, found);
        permalinks(copy, job, found);
        for (&number, &progress) in &job.builds {
            let (at, plan) = (job.at(number), job.plan(number));
            if progress == Some(Progress::Final) {
                finished(copy, &at, &plan, found);
            } else {
                running(copy, &at, &plan, progress, found);
            }
        }
    }
}

fn numbers(job: &SeenJob, found: &mut Found) {
    let path = format!("{}/nextBuildNumber", job.path);
    let Some(next) = job.next else { return found.add(Rule::NextBuild, &path, "is no number") };
    let last = job.builds.keys().next_back().copied().unwrap_or(0);
    found.add_if(last >= next, Rule::NextBuild, &path, || format!("is {next}, and build {last} is there"));
    found.add_if(last + 2 < next, Rule::NextBuild, &path, || format!("is {next}, and the last build is {last}"));
    let numbers: Vec<u64> = job.builds.keys().copied().collect();
    for pair in numbers.windows(2) {
        let [one, other] = [pair[0], pair[1]];
        found.add_if(other != one + 1, Rule::Builds, &job.at(other), || format!("the build before it is {one}"));
        found.add_if(!job.is_final(one), Rule::Builds, &job.at(one), || format!("has not ended, and {other} is there"));
    }
}

fn permalinks(copy: &Copy, job: &SeenJob, found: &mut Found) {
    let path = format!("{}/builds/permalinks", job.path);
    let text = copy.text(&path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("lastSuccessfulBuild "));
    let last = job.builds.keys().next_back().copied().unwrap_or(0);
    let named = match value {
        Some("-1") => Some(0),
        Some(number) => number.parse::<u64>().ok().filter(|number| job.is_final(*number)),
        None => None,
    };
    let is_right = named.is_some_and(|named| named == last || named + 1 == last);
    found.add_if(!is_right, Rule::Permalinks, &path, || format!("says {value:?}, and the last build is {last}"));
}

fn finished(copy: &Copy, at: &str, plan: &Plan, found: &mut Found) {
    let said = copy.text(&format!("{at}/log")).unwrap_or_default().len();
    let whole = plan.log(plan.steps).len();
    found.add_if(said != whole, Rule::Finished, at, || format!("its log has {said} bytes of {whole}"));
    for left in ["program.dat", "workflow"] {
        found.add_if(copy.has(&format!("{at}/{left}")), Rule::Finished, at, || format!("{left} is still there"));
    }
    let has_nodes = copy.text(&completed(at)) == Some(plan.store(plan.steps));
    found.add_if(plan.kind != Kind::Freestyle && !has_nodes, Rule::Finished, at, || "it lacks its flow nodes".into());
    let (path, text) = plan.fingerprint_file();
    found.add_if(copy.text(&path) != Some(text), Rule::Finished, at, || format!("it lacks its fingerprint {path}"));
}

fn completed(at: &str) -> String {
    format!("{at}/workflow-completed/flowNodeStore.xml")
}

/// A build before its last save.
fn running(copy: &Copy, at: &str, plan: &Plan, progress: Option<Progress>, found: &mut Found) {
    let has = |name: &str| copy.has(&format!("{at}/{name}"));
    let mut broken = |what: String| found.add(Rule::Order, at, what);
    if plan.kind == Kind::Freestyle {
        if progress.is_some() {
            broken("a freestyle build has build.xml before its end".into());
        }
        return;
    }
    if progress.is_some() && !has("log") {
        broken("it has build.xml, but no log".into());
    }
    if progress.is_none() && has("workflow") {
        broken("it has flow nodes, but no build.xml".into());
    }
    let heads = copy.bytes(&format!("{at}/program.dat")).and_then(|program| heads_of(&program));
    if copy.has(&completed(at)) {
        if copy.text(&completed(at)) != Some(plan.store(plan.steps)) {
            broken("it has completed without all of its flow nodes".into());
        }
        if heads.is_some_and(|heads| heads != plan.steps) || (heads.is_none() && progress != Some(Progress::Completed))
        {
            broken(format!("it has completed, and the program knows {heads:?} flow nodes of {}", plan.steps));
        }
        if progress == Some(Progress::Completed) && has("workflow") {
            broken("build.xml says completed, and workflow is still there".into());
        }
        return;
    }
    if progress == Some(Progress::Completed) {
        broken("build.xml says completed, and the flow nodes are not in one file".into());
    }
    let heads = heads.unwrap_or(0);
    let saved = match plan.kind {
        Kind::Hasty => hasty(copy, at, plan, heads),
        _ => durable(copy, at, plan, heads),
    };
    let Some(saved) = saved else { return broken(format!("the flow nodes are not those of a program with {heads}")) };
    let (said, due) = (copy.bytes(&format!("{at}/log")).unwrap_or_default().len(), plan.log(saved).len());
    if said < due {
        broken(format!("its log has {said} bytes, and after {saved} flow nodes it had {due}"));
    }
}

/// How many flow nodes were saved or begun; `None` if they are not those that a program with `heads` waits on.
fn durable(copy: &Copy, at: &str, plan: &Plan, heads: u32) -> Option<u32> {
    let is_saved = |step: u32| copy.text(&format!("{at}/workflow/{step}.xml")) == Some(plan.node(step));
    // A save that is under way counts for nothing.
    let names = copy.names(&format!("{at}/workflow")).into_iter().filter(|name| name.ends_with(".xml"));
    let saved = u32::try_from(names.count()).ok().filter(|saved| *saved == heads || *saved == heads + 1)?;
    (0..saved).all(is_saved).then_some(saved)
}

/// The same where all are in one file: that is as it was before the program was saved, or the beginning of what comes next.
fn hasty(copy: &Copy, at: &str, plan: &Plan, heads: u32) -> Option<u32> {
    match copy.text(&format!("{at}/workflow/flowNodeStore.xml")) {
        None => (heads == 0).then_some(0),
        Some(text) if heads > 0 && text == plan.store(heads) => Some(heads),
        Some(text) => (heads < plan.steps && plan.store(heads + 1).starts_with(&text)).then_some(heads + 1),
    }
}
