//! A generator of homes: everything a controller has, in the sizes asked for, the same for the same seed.

use std::path::Path;

use super::pen::{Pen, PenError};
use super::plan::{Kind, Plan, Progress};
use super::secret::{self, SecretError};
use super::xml::document;
use crate::thought::dice::Dice;

/// How much of each there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HomeSize {
    /// Jobs.
    pub jobs: u32,
    /// Finished builds of each job, which the load then keeps as many of; it keeps one at least.
    pub builds: u64,
    /// Flow nodes of each pipeline build; one at least.
    pub flow_nodes: u32,
    /// Plugins.
    pub plugins: u32,
    /// Users.
    pub users: u32,
    /// Fingerprints beside those of the builds.
    pub fingerprints: u32,
}

impl Default for HomeSize {
    fn default() -> Self {
        Self { jobs: 8, builds: 4, flow_nodes: 8, plugins: 6, users: 5, fingerprints: 20 }
    }
}

/// Why no home could be made.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It could not be written.
    #[error(transparent)]
    Pen(#[from] PenError),
    /// Its secrets could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Where the master key lies.
pub(super) const MASTER: &str = "secrets/master.key";
/// Keys that each controller has.
pub(super) const KEYS: [&str; 3] = [
    "hudson.util.Secret",
    "jenkins.slaves.JnlpSlaveAgentProtocol.secret",
    "org.jenkinsci.main.modules.instance_identity.InstanceIdentity.KEY",
];

/// Makes a home in the directory `home`, which is there and empty.
pub fn make(home: &Path, size: HomeSize, seed: u64) -> Result<(), HomeError> {
    let mut silent = || {};
    let mut pen = Pen::new(home, false, &mut silent);
    let mut dice = Dice::new(seed);
    controller(&mut pen, &mut dice)?;
    plugins(&mut pen, &mut dice, size.plugins)?;
    users(&mut pen, size.users)?;
    pen.create_directory("fingerprints")?;
    for number in 0..size.fingerprints {
        let name = format!("{:016x}{:016x}", dice.roll(), dice.roll());
        let text = document("fingerprint", &[("job", &"gone"), ("number", &number), ("md5", &name)], "");
        fingerprint(&mut pen, &super::plan::fingerprint_path(&name), &text)?;
    }
    pen.create_directory("userContent")?;
    pen.create("userContent/readme.txt", "Files here are served under /userContent/.\n")?;
    pen.create_directory("jobs")?;
    for id in 0..size.jobs {
        job(&mut pen, id, &size)?;
    }
    Ok(())
}

fn controller(pen: &mut Pen<'_>, dice: &mut Dice) -> Result<(), HomeError> {
    let text = document("hudson", &[("version", &"2.504"), ("numExecutors", &2), ("mode", &"NORMAL")], "");
    pen.save("config.xml", text)?;
    for name in ["hudson.model.UpdateCenter", "jenkins.model.JenkinsLocationConfiguration", "nodeMonitors"] {
        pen.save(&format!("{name}.xml"), document(name, &[("made", &"once")], ""))?;
    }
    pen.create_directory("secrets")?;
    let master: String = dice.noise(128).iter().map(|byte| format!("{byte:02x}")).collect();
    pen.save(MASTER, &master)?;
    for name in KEYS {
        pen.create(&format!("secrets/{name}"), secret::seal(&master, &dice.noise(256))?)?;
    }
    pen.save("secret.key", &master[..64])?;
    pen.create("secret.key.not-so-secret", "")?;
    pen.create("identity.key.enc", dice.noise(1200))?;
    Ok(())
}

/// Plugins and the directories they are exploded to.
fn plugins(pen: &mut Pen<'_>, dice: &mut Dice, count: u32) -> Result<(), HomeError> {
    pen.create_directory("plugins")?;
    for number in 0..count {
        let name = format!("plugin-{number}");
        let manifest = format!("Manifest-Version: 1.0\r\nShort-Name: {name}\r\nPlugin-Version: 1.{number}\r\n\r\n");
        let length = 20_000 + dice.below(200_000);
        let classes = dice.noise(usize::try_from(length).unwrap_or(0));
        let archive =
            super::zip::stored(&[("META-INF/MANIFEST.MF", manifest.as_bytes()), ("WEB-INF/lib/classes.jar", &classes)]);
        pen.create(&format!("plugins/{name}.jpi"), archive)?;
        pen.create_directories(&format!("plugins/{name}/META-INF"))?;
        pen.create(&format!("plugins/{name}/META-INF/MANIFEST.MF"), manifest)?;
        pen.create(&format!("plugins/{name}/.timestamp2"), "")?;
        pen.same_time(&format!("plugins/{name}.jpi"), &format!("plugins/{name}/.timestamp2"))?;
    }
    Ok(())
}

fn users(pen: &mut Pen<'_>, count: u32) -> Result<(), HomeError> {
    pen.create_directory("users")?;
    let directories: Vec<String> =
        (0..count).map(|number| format!("user{number}_{:019}", u64::from(number) + 7)).collect();
    for directory in &directories {
        pen.create_directory(&format!("users/{directory}"))?;
        pen.save(&format!("users/{directory}/config.xml"), document("user", &[("id", directory)], ""))?;
    }
    let listed: Vec<(&str, &dyn std::fmt::Display)> =
        directories.iter().map(|directory| ("directory", directory as _)).collect();
    pen.save("users/users.xml", document("hudson.model.UserIdMapper", &listed, ""))?;
    Ok(())
}

/// The configuration of a job, after so many edits.
pub(super) fn job_config(id: u32, steps: u32, edits: u64) -> String {
    document(
        "project",
        &[("id", &id), ("steps", &steps), ("edits", &edits)],
        &"c".repeat(1500 + usize::from(edits.is_multiple_of(2))),
    )
}

fn job(pen: &mut Pen<'_>, id: u32, size: &HomeSize) -> Result<(), PenError> {
    let at = format!("jobs/job-{id}");
    let steps = size.flow_nodes.max(1);
    pen.create_directories(&format!("{at}/builds"))?;
    pen.save(&format!("{at}/config.xml"), job_config(id, steps, 0))?;
    for number in 1..=size.builds {
        finished_build(pen, &format!("{at}/builds/{number}"), &Plan::of(id, steps, number))?;
    }
    let last = if size.builds == 0 { "-1".into() } else { size.builds.to_string() };
    pen.save(&format!("{at}/builds/permalinks"), permalinks(&last))?;
    pen.save(&format!("{at}/nextBuildNumber"), (size.builds + 1).to_string())
}

/// The file that says which build succeeded last.
pub(super) fn permalinks(last: &str) -> String {
    format!("lastFailedBuild -1\nlastSuccessfulBuild {last}\n")
}

/// Saves the fingerprint `text` at `path`.
pub(super) fn fingerprint(pen: &mut Pen<'_>, path: &str, text: &str) -> Result<(), PenError> {
    pen.create_directories(path.rsplit_once('/').map_or("", |(directory, _)| directory))?;
    pen.save(path, text)
}

fn finished_build(pen: &mut Pen<'_>, at: &str, plan: &Plan) -> Result<(), PenError> {
    pen.create_directory(at)?;
    pen.create(&format!("{at}/log"), plan.log(plan.steps))?;
    if plan.kind != Kind::Freestyle {
        pen.create_directory(&format!("{at}/workflow-completed"))?;
        pen.save(&format!("{at}/workflow-completed/flowNodeStore.xml"), plan.store(plan.steps))?;
    }
    let (path, text) = plan.fingerprint_file();
    fingerprint(pen, &path, &text)?;
    pen.save(&format!("{at}/build.xml"), plan.record(Progress::Final))
}
