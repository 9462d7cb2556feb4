//! What no Jenkins has, beside the jobs: files that tell one instant from two. Each writer of the load has its own, in
//! `userContent/load-<writer>`.
//!
//! | name | what its writer does |
//! |---|---|
//! | `one/count`, `two/count` | rewritten in place, the first one first: they are equal, or the first is one ahead |
//! | `one/token`, `two/token`, `three/token` | one file, renamed from directory to directory |
//! | `one/baton/..`, `two/baton/..`, `three/baton/..` | the same with a directory and what is in it |
//! | `left`, `right` | two directories, exchanged in one call (`RENAME_EXCHANGE`) |
//! | `near`, `far` | two directories, exchanged in three renames by way of `between` |
//! | `notes` | rewritten in place, each time longer than before; saved anew when it is long |

/// The directories that a token is in.
pub(super) const HOLDERS: [&str; 3] = ["one", "two", "three"];
/// The two counters' directories; the first one is written first.
pub(super) const COUNTERS: [&str; 2] = ["one", "two"];
/// What is moved between the holders: a file, and a file in a directory.
pub(super) const TOKENS: [&str; 2] = ["token", "baton/inside"];
/// Directories that change places, and the place that they go by, if any.
pub(super) const SWAPS: [(&str, &str, Option<&str>); 2] = [("left", "right", None), ("near", "far", Some("between"))];
/// The files in each directory that changes places. All say where that directory was first.
pub(super) const MEMBERS: [&str; 4] = ["a", "b", "c", "d"];
/// How many versions of the notes there are before they are short again.
pub(super) const NOTES_SPAN: u64 = 20;

/// Where the instruments of a writer lie.
pub(super) fn directory(writer: u32) -> String {
    format!("userContent/load-{writer}")
}

/// What a counter says.
pub(super) fn count(number: u64) -> String {
    format!("{number:020}")
}

/// A version of the notes, each line of which tells the version.
pub(super) fn notes(version: u64) -> String {
    let lines = 4 + 5 * (version % NOTES_SPAN);
    (0..lines).map(|line| format!("note {version:020} line {line:04} {}\n", ".".repeat(30))).collect()
}

/// The versions that the first and the last whole line of notes tell.
pub(super) fn note_versions(text: &[u8]) -> Vec<u64> {
    let version = |line: &[u8]| std::str::from_utf8(line.get(5..25)?).ok()?.parse().ok();
    let mut lines = text.split(|&byte| byte == b'\n').filter_map(version);
    let first = lines.next();
    first.into_iter().chain(lines.next_back()).collect()
}

/// True if `text` is what a write of `new` over `old`, done in part or not at all or wholly, leaves.
pub(crate) fn is_part_written(text: &[u8], old: &[u8], new: &[u8]) -> bool {
    let begun = text.iter().zip(new).take_while(|(found, new)| found == new).count();
    (0..=begun).rev().any(|end| text[end..] == *old.get(end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_done_in_part_is_told_from_anything_else() {
        for (text, is_part) in [
            ("0199", true),
            ("0299", true),
            ("0209", true),
            ("0200", true),
            ("02000", true),
            ("0190", false),
            ("0198", false),
            ("020", false),
            ("", false),
            ("01990", false),
        ] {
            assert_eq!(is_part_written(text.as_bytes(), b"0199", b"02000"), is_part, "{text}");
        }
    }

    #[test]
    fn notes_tell_their_versions() {
        let (old, new) = (notes(7), notes(8));
        assert!(old.len() < new.len());
        let mixed = [&new.as_bytes()[..200], &old.as_bytes()[200..]].concat();
        assert_eq!(note_versions(&mixed), [8, 7]);
        assert!(is_part_written(&mixed, old.as_bytes(), new.as_bytes()));
    }
}
