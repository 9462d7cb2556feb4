//! Which paths are replicated: gitignore patterns, anchored at the home, by the `ignore` crate.
//!
//! The order is: what the preset leaves out, then `exclude`, then `include`; the last pattern that matches decides. As in a `.gitignore`,
//! nothing below a directory that is left out can be taken in again: such a directory is neither watched, walked nor deleted on a
//! standby.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

use crate::words::entry::Digest;
use crate::words::path::RelPath;

/// A named set of patterns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// What a Jenkins home holds that a spare does not need: see [`JENKINS`].
    #[default]
    Jenkins,
    /// Nothing is left out.
    None,
}

/// What the preset `jenkins` leaves out: caches, exploded war, workspaces, logs of Jenkins itself, and temporaries of writers that were
/// killed. All anchored where a job may have the same name.
pub const JENKINS: &[&str] = &[
    "/war/",
    "/caches/",
    "/cache/",
    "/.cache/",
    "/workspace/",
    "/jobs/*/workspace*",
    "*@tmp",
    "*@script",
    "/logs/",
    "/.owner",
    "/failed-boot-attempts.txt",
    "/hs_err*",
    "*-atomic[0-9]*tmp",
    "atomic[0-9]*tmp",
    "/plugins/*.jpi.tmp",
    "/plugins/*.hpi.tmp",
    "symtmp[0-9]*.tmp",
    "**/builds/.[0-9]*",
    ".nfs*",
];

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no gitignore pattern: {reason}")]
pub struct FilterError {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Decides which paths are replicated.
#[derive(Clone, Debug)]
pub struct Filter {
    patterns: Gitignore,
    digest: Digest,
}

impl Filter {
    /// Puts together a preset and a person's own patterns.
    pub fn new(preset: Preset, exclude: &[String], include: &[String]) -> Result<Self, FilterError> {
        let preset: &[&str] = match preset {
            Preset::Jenkins => JENKINS,
            Preset::None => &[],
        };
        let lines = preset.iter().map(ToString::to_string).chain(exclude.iter().cloned());
        let lines: Vec<String> = lines.chain(include.iter().map(|pattern| format!("!{pattern}"))).collect();
        let mut builder = GitignoreBuilder::new("");
        for line in &lines {
            let failed = |error: ignore::Error| FilterError { pattern: line.clone(), reason: error.to_string() };
            builder.add_line(None, line).map_err(failed)?;
        }
        let failed = |error: ignore::Error| FilterError { pattern: String::new(), reason: error.to_string() };
        Ok(Self { patterns: builder.build().map_err(failed)?, digest: Digest::of(lines.join("\n").as_bytes()) })
    }

    /// Leaves out nothing but `.hotspare`.
    pub fn everything() -> Self {
        Self { patterns: Gitignore::empty(), digest: Digest::of(b"") }
    }

    /// True if `path` itself is left out; what is above it is not looked at.
    pub fn leaves_out(&self, path: &RelPath, is_directory: bool) -> bool {
        path.is_reserved() || (!path.is_root() && self.patterns.matched(os_path(path), is_directory).is_ignore())
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

    /// What tells one filter from another.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn os_path(path: &RelPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_out(filter: &Filter, path: &str, is_directory: bool) -> bool {
        filter.leaves_out_within(&RelPath::parse(path.as_bytes()).unwrap(), is_directory)
    }

    #[test]
    fn the_jenkins_preset_leaves_out_what_can_be_made_again_and_nothing_else() {
        let filter = Filter::new(Preset::Jenkins, &[], &[]).unwrap();
        for (path, is_directory) in [
            ("war", true),
            ("war/WEB-INF/web.xml", false),
            ("workspace/job/src.c", false),
            ("jobs/a/workspace", true),
            ("jobs/a/workspace@2", true),
            ("jobs/a/workspace@tmp", true),
            ("logs/tasks/x.log", false),
            (".owner", false),
            ("config.xml-atomic123tmp", false),
            ("jobs/a/builds/.7", true),
            ("plugins/git.jpi.tmp", false),
            (".hotspare", true),
            (".hotspare/home", false),
        ] {
            assert!(is_out(&filter, path, is_directory), "{path} should be left out");
        }
        for (path, is_directory) in [
            ("jobs/war", true),
            ("jobs/logs/config.xml", false),
            ("jobs/workspace/config.xml", false),
            ("jobs/a/builds/7/log", false),
            ("jobs/a/builds/7/changelog123.xml", false),
            ("fileParameterValueFiles/jenkins12.tmp", false),
            ("secrets/master.key", false),
            ("plugins/git.jpi", false),
            ("a/.hotspare", true),
        ] {
            assert!(!is_out(&filter, path, is_directory), "{path} should be replicated");
        }
    }

    #[test]
    fn include_brings_back_what_the_preset_leaves_out() {
        let filter = Filter::new(Preset::Jenkins, &["*.iso".into()], &["/logs/".into()]).unwrap();
        assert!(!is_out(&filter, "logs/x.log", false));
        assert!(is_out(&filter, "a/b.iso", false));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Filter::new(Preset::None, &["a{b".into()], &[]).unwrap_err();
        assert_eq!(error.pattern, "a{b");
    }
}
