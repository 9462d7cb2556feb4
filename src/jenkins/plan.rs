//! What a build writes in the course of its life, down to the byte: it follows from its job and number, so that a check needs no record of
//! what was written to know what may be there.

use super::xml::document;
use crate::thought::dice::Dice;

/// How a build saves its flow nodes, if it has any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// No flow nodes; `build.xml` only at its end.
    Freestyle,
    /// Every flow node in a file of its own, saved atomically.
    Durable,
    /// All flow nodes in one file, which is truncated and written anew in place for each.
    Hasty,
}

/// How far a build has come, as its `build.xml` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It runs.
    Running,
    /// A pipeline has ended, but its last save is still to come.
    Completed,
    /// The last save.
    Final,
}

/// How `program.dat` begins.
const PROGRAM: [u8; 10] = [0x65, 0xbc, 0x0a, 0x22, 0xb1, 0xe7, 0x49, 0xd1, 0, 1];

/// All that one build will write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) job: u32,
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) steps: u32,
    lines: u64,
}

impl Plan {
    /// The plan of a build of `job`, whose builds have `steps` steps.
    pub(super) fn of(job: u32, steps: u32, number: u64) -> Self {
        let mut dice = Dice::new((u64::from(job) << 32) ^ number);
        let kind = [Kind::Freestyle, Kind::Durable, Kind::Durable, Kind::Hasty][dice.index(4)];
        // One in ten says much.
        let lines = if dice.below(10) == 0 { 200 } else { 2 + dice.below(8) };
        Self { job, number, kind, steps, lines }
    }

    /// What the steps before the `end`-th say.
    pub(super) fn log(&self, end: u32) -> String {
        let Self { job, number, .. } = *self;
        let mut log = String::new();
        for step in 0..end {
            let mut dice = Dice::new((number << 20) ^ (u64::from(job) << 10) ^ u64::from(step));
            for line in 0..self.lines {
                log += &format!("[job {job} #{number}] step {step} line {line}: {:016x}\n", dice.roll());
            }
        }
        if end == self.steps {
            log += "Finished: SUCCESS\n";
        }
        log
    }

    /// One flow node.
    pub(super) fn node(&self, step: u32) -> String {
        document(
            "Tag",
            &[("build", &self.number), ("id", &step), ("parent", &step.saturating_sub(1))],
            &"n".repeat(700),
        )
    }

    /// The flow nodes before the `end`-th in one file.
    pub(super) fn store(&self, end: u32) -> String {
        let nodes: Vec<String> = (0..end).map(|step| format!("{} {} {}", self.number, step, "n".repeat(300))).collect();
        let fields: Vec<(&str, &dyn std::fmt::Display)> = nodes.iter().map(|node| ("node", node as _)).collect();
        document("map", &fields, "")
    }

    /// The state of the program that waits for the step after `heads` flow nodes.
    pub(super) fn program(&self, heads: u32) -> Vec<u8> {
        let mut bytes = PROGRAM.to_vec();
        bytes.extend_from_slice(&18_u32.to_be_bytes());
        bytes.extend_from_slice(&heads.to_be_bytes());
        let mut dice = Dice::new(self.number ^ u64::from(heads));
        let length = 1000 + dice.below(4000);
        bytes.extend_from_slice(&dice.noise(usize::try_from(length).unwrap_or(0)));
        bytes
    }

    /// `build.xml`.
    pub(super) fn record(&self, progress: Progress) -> String {
        let has_ended = progress != Progress::Running;
        let fingerprint = if progress == Progress::Final { self.fingerprint() } else { String::new() };
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> = vec![("number", &self.number), ("completed", &has_ended)];
        if progress == Progress::Final {
            fields.extend([("fingerprint", &fingerprint as &dyn std::fmt::Display), ("result", &"SUCCESS")]);
        }
        document("run", &fields, &"b".repeat(if has_ended { 3000 } else { 2000 }))
    }

    /// What the build leaves, by name: 32 hex digits.
    fn fingerprint(&self) -> String {
        let mut dice = Dice::new(u64::from(self.job) ^ (self.number << 8));
        format!("{:016x}{:016x}", dice.roll(), dice.roll())
    }

    /// Where the record of what it leaves lies, and what stands there.
    pub(super) fn fingerprint_file(&self) -> (String, String) {
        let name = self.fingerprint();
        let text = document("fingerprint", &[("job", &self.job), ("number", &self.number), ("md5", &name)], "");
        (fingerprint_path(&name), text)
    }
}

/// Where the fingerprint `name` lies.
pub(super) fn fingerprint_path(name: &str) -> String {
    let (first, rest) = name.split_at_checked(2).unwrap_or((name, ""));
    let (second, rest) = rest.split_at_checked(2).unwrap_or((rest, ""));
    format!("fingerprints/{first}/{second}/{rest}.xml")
}

/// How many flow nodes the program knows; `None` if it cannot be loaded.
pub(super) fn heads_of(program: &[u8]) -> Option<u32> {
    let rest = program.strip_prefix(&PROGRAM)?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (heads, _) = rest.split_first_chunk()?;
    let offset = usize::try_from(u32::from_be_bytes(*offset)).ok()?;
    ((1..=program.len()).contains(&offset)).then(|| u32::from_be_bytes(*heads))
}

/// How far the build of this `build.xml` has come.
pub(super) fn progress_of(record: &str) -> Progress {
    match (super::xml::field(record, "result"), super::xml::field(record, "completed")) {
        (Some(_), _) => Progress::Final,
        (None, Some("true")) => Progress::Completed,
        (None, _) => Progress::Running,
    }
}
