//! What a Jenkins home holds that a spare does not need: the preset `jenkins`.
//!
//! [`PATTERNS`] are caches, the exploded war, workspaces, and logs of Jenkins itself; all anchored where a job may have the same name.
//! [`is_temporary`] knows the names under which writers keep what is not finished: each is renamed or removed within moments, and stays
//! only when a writer was killed. Nothing directly in a `jobs` directory is one: there it is the name of a job.

use crate::words::path::{NAME_MAX, RelPath};

/// What the preset leaves out, in gitignore syntax.
pub const PATTERNS: &[&str] = &[
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
    "/plugins/*.jpi.tmp",
    "/plugins/*.hpi.tmp",
    ".nfs*",
];

/// True if the last name of `path` is that of a temporary:
///
/// | name | whose |
/// |---|---|
/// | `.+-atomic\d+tmp`, `atomic\d+tmp`, `atomic\d+\.tmp` | a file that will be renamed over another |
/// | [`NAME_MAX`] bytes, the last `\d{10}tmp` | the same, of a file with a long name |
/// | `symtmp\d+\.tmp` | a symbolic link that will be renamed over another |
/// | `\.\d+` in the `builds` of something below `/jobs`, not within a build | a build that is being deleted |
pub fn is_temporary(path: &RelPath) -> bool {
    let names: Vec<&[u8]> = path.as_bytes().split(|&byte| byte == b'/').collect();
    let Some((&name, above)) = names.split_last() else { return false };
    if above.last() == Some(&&b"jobs"[..]) {
        return false;
    }
    is_atomic(name) || is_symlink(name) || (name.first() == Some(&b'.') && is_deleted_build(&name[1..], above))
}

/// What a Jenkins home is not whole without, of which `path` is a part; `None` for the rest. Artifacts, workspaces and the contents of builds
/// are left to policy.
pub fn vital(path: &RelPath) -> Option<&'static str> {
    let names: Vec<&[u8]> = path.as_bytes().split(|&byte| byte == b'/').collect();
    let (&name, above) = names.split_last()?;
    let is_in_build = above.windows(2).any(|pair| pair[1] == b"builds" && pair[0] != b"jobs");
    match (names[0], above.len()) {
        (b"secrets", _) => Some("secrets/"),
        (b"users", _) => Some("users/"),
        (b"nodes", _) => Some("nodes/"),
        (b"init.groovy.d", _) => Some("init.groovy.d/"),
        (b"userContent", _) => Some("userContent/"),
        (b"identity.key.enc", 0) => Some("identity.key.enc"),
        (_, 0) if name.starts_with(b"secret.key") => Some("secret.key*"),
        (_, 0) if name.ends_with(b".xml") => Some("*.xml at the home"),
        (b"plugins", 1) if !is_temporary_plugin(name) && is_plugin(name) => Some("plugins/*.[jh]pi*"),
        (b"jobs", depth) if depth > 1 && !is_in_build => match name {
            b"config.xml" => Some("config.xml of a job"),
            b"nextBuildNumber" => Some("nextBuildNumber of a job"),
            b"builds" => Some("builds/ of a job"),
            b"branches" => Some("branches/ of a job"),
            b"state.xml" => Some("state.xml of a job"),
            _ if name.starts_with(b"scm-") && name.ends_with(b"-hash.xml") => Some("scm-*-hash.xml of a job"),
            _ => None,
        },
        _ => None,
    }
}

fn is_plugin(name: &[u8]) -> bool {
    name.windows(4).any(|part| part == b".jpi" || part == b".hpi")
}

fn is_temporary_plugin(name: &[u8]) -> bool {
    name.ends_with(b".jpi.tmp") || name.ends_with(b".hpi.tmp")
}

fn is_atomic(name: &[u8]) -> bool {
    let before_digits = |suffix: &[u8]| {
        let (before, digits) = split_digits(name.strip_suffix(suffix)?);
        (!digits.is_empty()).then_some((before, digits.len()))
    };
    match before_digits(b"tmp") {
        Some((b"atomic", _)) => true,
        Some((before, digits)) => {
            let is_named = before.len() > b"-atomic".len() && before.ends_with(b"-atomic");
            is_named || (name.len() == NAME_MAX && digits >= 10)
        }
        None => matches!(before_digits(b".tmp"), Some((b"atomic", _))),
    }
}

fn is_symlink(name: &[u8]) -> bool {
    name.strip_prefix(b"symtmp").and_then(|rest| rest.strip_suffix(b".tmp")).is_some_and(is_number)
}

fn is_deleted_build(number: &[u8], above: &[&[u8]]) -> bool {
    let is_in_build = above.windows(2).any(|pair| pair[0] == b"builds" && is_number(pair[1]));
    above.first() == Some(&&b"jobs"[..]) && above.last() == Some(&&b"builds"[..]) && !is_in_build && is_number(number)
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// What comes before the digits at the end, and those.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(text.len() - digits)
}
