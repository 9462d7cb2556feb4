//! One job under load: its builds, one after the other, in the order in which Jenkins writes.

use std::fs;
use std::path::Path;

use super::LoadError;
use crate::jenkins::home::{fingerprint, job_config, permalinks};
use crate::jenkins::ledger::JobFacts;
use crate::jenkins::pen::{Log, Pen, PenError};
use crate::jenkins::plan::{Kind, Plan, Progress, heads_of, progress_of};
use crate::jenkins::xml;
use crate::thought::dice::Dice;

/// A job and what is known of its files.
pub(super) struct Job {
    name: String,
    facts: JobFacts,
    steps: u32,
    oldest: u64,
    keep: u64,
    build: Option<Build>,
}

/// A build that runs.
struct Build {
    plan: Plan,
    log: Log,
    text: String,
    /// Where each step's part of the text ends.
    ends: Vec<usize>,
    /// How much of the text is in the log.
    written: usize,
    /// How many flow nodes are saved.
    saved: u32,
}

impl Job {
    /// Takes over the job in `jobs/<name>`.
    pub(super) fn open(home: &Path, name: String, pen: &mut Pen<'_>) -> Result<Self, LoadError> {
        let at = home.join("jobs").join(&name);
        let strange = |what: &'static str| LoadError::Strange { what, path: at.clone() };
        let text =
            |path: &str| fs::read_to_string(at.join(path)).map_err(|_| strange("cannot read the files of the job"));
        let config = text("config.xml")?;
        let number = |name| xml::number(&config, name).ok_or_else(|| strange("config.xml is not one of a made home"));
        let id = u32::try_from(number("id")?).map_err(|_| strange("the id of the job is too large"))?;
        let steps = u32::try_from(number("steps")?).map_err(|_| strange("the job has too many steps"))?;
        let next = text("nextBuildNumber")?.parse().map_err(|_| strange("nextBuildNumber is no number"))?;
        let listing = fs::read_dir(at.join("builds")).map_err(|_| strange("cannot list the builds of the job"))?;
        let numbers = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        let oldest = numbers.min().unwrap_or(next);
        let mut facts = JobFacts { id, next, finished: next - 1, edits: number("edits")?, log: 0 };
        let mut build = None;
        let last = next - 1;
        if last >= oldest {
            let plan = Plan::of(id, steps, last);
            let record = text(&format!("builds/{last}/build.xml")).unwrap_or_default();
            if progress_of(&record) != Progress::Final {
                facts.finished = last - 1;
                build = Some(Build::resume(&at, &name, plan, pen)?);
            }
        }
        let keep = u64::max(next - oldest, 1);
        Ok(Self { name, facts, steps, oldest, keep, build })
    }

    pub(super) fn facts(&self) -> JobFacts {
        self.facts
    }

    /// One more of what Jenkins does with a job.
    pub(super) fn step(&mut self, pen: &mut Pen<'_>, dice: &mut Dice) -> Result<(), PenError> {
        match dice.below(60) {
            0 => self.edit(pen),
            1 => self.rename(pen),
            _ => self.build(pen, dice),
        }
    }

    fn at(&self) -> String {
        format!("jobs/{}", self.name)
    }

    fn edit(&mut self, pen: &mut Pen<'_>) -> Result<(), PenError> {
        let edits = self.facts.edits + 1;
        pen.save(&format!("{}/config.xml", self.at()), job_config(self.facts.id, self.steps, edits))?;
        self.facts.edits = edits;
        Ok(())
    }

    fn rename(&mut self, pen: &mut Pen<'_>) -> Result<(), PenError> {
        let plain = format!("job-{}", self.facts.id);
        let name = if self.name == plain { format!("{plain}-renamed") } else { plain };
        pen.rename(&self.at(), &format!("jobs/{name}"))?;
        self.name = name;
        Ok(())
    }

    fn build(&mut self, pen: &mut Pen<'_>, dice: &mut Dice) -> Result<(), PenError> {
        let at = self.at();
        let Some(build) = &mut self.build else {
            self.build = Some(self.start(pen)?);
            return Ok(());
        };
        if build.says_more() {
            build.say(pen, dice)?;
            self.facts.log = build.written as u64;
        } else if build.plan.kind != Kind::Freestyle && build.saved < build.plan.steps {
            let directory = format!("{at}/builds/{}", build.plan.number);
            build.save_node(pen, &directory)?;
        } else {
            let plan = build.plan;
            self.build = None;
            end(pen, &format!("{at}/builds/{}", plan.number), &plan)?;
            pen.save(&format!("{at}/builds/permalinks"), permalinks(&plan.number.to_string()))?;
            (self.facts.finished, self.facts.log) = (plan.number, 0);
            self.discard(pen)?;
        }
        Ok(())
    }

    /// The number is spent before anything of the build is there.
    fn start(&mut self, pen: &mut Pen<'_>) -> Result<Build, PenError> {
        let number = self.facts.next;
        pen.save(&format!("{}/nextBuildNumber", self.at()), (number + 1).to_string())?;
        self.facts.next = number + 1;
        let at = format!("{}/builds/{number}", self.at());
        let plan = Plan::of(self.facts.id, self.steps, number);
        pen.create_directory(&at)?;
        let log = pen.open_log(&format!("{at}/log"))?;
        if plan.kind != Kind::Freestyle {
            pen.save(&format!("{at}/build.xml"), plan.record(Progress::Running))?;
            pen.create_directory(&format!("{at}/workflow"))?;
        }
        Ok(Build::new(plan, log, 0, 0))
    }

    /// What is beyond those kept is renamed out of sight, and then removed.
    fn discard(&mut self, pen: &mut Pen<'_>) -> Result<(), PenError> {
        let at = self.at();
        while self.facts.next - self.oldest > self.keep {
            let number = self.oldest;
            pen.rename(&format!("{at}/builds/{number}"), &format!("{at}/builds/.{number}"))?;
            self.oldest += 1;
            pen.remove_tree(&format!("{at}/builds/.{number}"))?;
        }
        Ok(())
    }
}

impl Build {
    /// Goes on with the build that a stopped load left.
    fn resume(job: &Path, name: &str, plan: Plan, pen: &mut Pen<'_>) -> Result<Self, LoadError> {
        let log = pen.open_log(&format!("jobs/{name}/builds/{}/log", plan.number))?;
        let at = job.join("builds").join(plan.number.to_string());
        let strange =
            || LoadError::Strange { what: "the last build of the job is none of a stopped load", path: at.clone() };
        let length = fs::metadata(at.join("log")).map_err(|_| strange())?.len();
        let program = fs::read(at.join("program.dat")).unwrap_or_default();
        let saved = heads_of(&program).unwrap_or(0);
        let written = usize::try_from(length).map_err(|_| strange())?;
        Ok(Self::new(plan, log, written, saved))
    }

    fn new(plan: Plan, log: Log, written: usize, saved: u32) -> Self {
        let text = plan.log(plan.steps);
        let ends = if plan.kind == Kind::Freestyle {
            Vec::new()
        } else {
            (1..=plan.steps).map(|end| plan.log(end).len()).collect()
        };
        Self { plan, log, text, ends, written, saved }
    }

    /// Where the log must have come to before the next flow node is saved.
    fn due(&self) -> usize {
        let end = usize::try_from(self.saved).ok().and_then(|saved| self.ends.get(saved));
        end.copied().unwrap_or(self.text.len())
    }

    fn says_more(&self) -> bool {
        self.written < self.due()
    }

    /// Appends a few bytes, with no regard to lines.
    fn say(&mut self, pen: &mut Pen<'_>, dice: &mut Dice) -> Result<(), PenError> {
        let most = if self.text.len() > 50_000 { 8000 } else { 120 };
        let length = usize::try_from(1 + dice.below(most)).unwrap_or(1);
        let end = usize::min(self.written + length, self.due());
        pen.append(&self.log, &self.text.as_bytes()[self.written..end])?;
        self.written = end;
        Ok(())
    }

    /// The flow node first, then the program that refers to it.
    fn save_node(&mut self, pen: &mut Pen<'_>, at: &str) -> Result<(), PenError> {
        match self.plan.kind {
            Kind::Hasty => {
                pen.rewrite(&format!("{at}/workflow/flowNodeStore.xml"), self.plan.store(self.saved + 1).as_bytes())?;
            }
            _ => pen.save(&format!("{at}/workflow/{}.xml", self.saved), self.plan.node(self.saved))?,
        }
        self.saved += 1;
        pen.save(&format!("{at}/program.dat"), self.plan.program(self.saved))
    }
}

fn end(pen: &mut Pen<'_>, at: &str, plan: &Plan) -> Result<(), PenError> {
    let (path, text) = plan.fingerprint_file();
    fingerprint(pen, &path, &text)?;
    if plan.kind != Kind::Freestyle {
        pen.create_directory(&format!("{at}/workflow-completed"))?;
        pen.save(&format!("{at}/workflow-completed/flowNodeStore.xml"), plan.store(plan.steps))?;
        pen.remove_tree(&format!("{at}/workflow"))?;
        pen.save(&format!("{at}/build.xml"), plan.record(Progress::Completed))?;
        pen.remove(&format!("{at}/program.dat"))?;
    }
    pen.save(&format!("{at}/build.xml"), plan.record(Progress::Final))
}
