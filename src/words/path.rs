//! Paths inside a home.
//!
//! A [`RelPath`] is a sequence of [`Name`]s, relative to the home's root. It is bytes, not text: Linux allows every byte but
//! `/` and NUL. It can be longer than `PATH_MAX`; whoever opens one goes component by component.
//!
//! **Order.** Paths compare component by component, each component as bytes. So a directory comes before everything in it, and
//! everything in it comes before the directory's next sibling (`a` < `a/b` < `a-b`, although `-` < `/` as bytes): comparing
//! two trees is a merge-join, and a subtree is a contiguous range.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that Linux file systems accept, in bytes.
pub const NAME_MAX: usize = 255;
/// The longest path accepted from a peer or a disk, in bytes. Linux itself sets no limit on depth; this bounds memory.
pub const PATH_CAP: usize = 64 * 1024;
/// The directory at the root of every home that belongs to hotspare and is never replicated.
pub const RESERVED: &[u8] = b".hotspare";

/// Why bytes are not a path inside a home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty (`a//b`, a leading or a trailing slash).
    #[error("a path component is empty")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a path component is `.` or `..`")]
    Dots,
    /// A component holds `/` or NUL.
    #[error("a name holds a slash or a NUL byte")]
    Forbidden,
    /// A component is longer than [`NAME_MAX`].
    #[error("a name is {0} bytes long, more than {NAME_MAX}")]
    NameTooLong(usize),
    /// The whole is longer than [`PATH_CAP`].
    #[error("a path is {0} bytes long, more than {PATH_CAP}")]
    PathTooLong(usize),
}

/// One component: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::parse(bytes).map_err(serde::de::Error::custom)
    }
}

fn check_name(bytes: &[u8]) -> Result<(), PathError> {
    match bytes {
        b"" => return Err(PathError::Empty),
        b"." | b".." => return Err(PathError::Dots),
        _ => {}
    }
    if bytes.len() > NAME_MAX {
        return Err(PathError::NameTooLong(bytes.len()));
    }
    if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(PathError::Forbidden);
    }
    Ok(())
}

/// A path relative to a home's root; the root itself is the empty path. A clone shares its bytes: one path of a generation stands in a dozen
/// lists at once.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(Arc<[u8]>);

impl RelPath {
    /// The home's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks `bytes` (components separated by single slashes; empty for the root) and takes them as a path.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_CAP {
            return Err(PathError::PathTooLong(bytes.len()));
        }
        bytes.split(|&byte| byte == b'/').try_for_each(check_name)?;
        Ok(Self(bytes.into()))
    }

    /// The path's bytes, components separated by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the home's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &Name) -> Self {
        self.join_bytes(&name.0)
    }

    fn join_bytes(&self, tail: &[u8]) -> Self {
        if self.0.is_empty() {
            return Self(tail.into());
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + tail.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(tail);
        Self(bytes.into())
    }

    /// The directory this path is in, and its name there; `None` for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (Self(self.0[..at].into()), Name(self.0[at + 1..].into())),
            None => (Self::root(), Name(self.0[..].into())),
        })
    }

    /// The directory this path is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(parent, _)| parent)
    }

    /// The components, from the root down.
    pub fn components(&self) -> impl Iterator<Item = Name> + '_ {
        self.component_bytes().map(|bytes| Name(bytes.into()))
    }

    fn component_bytes(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.0.split(|&byte| byte == b'/').filter(|bytes| !bytes.is_empty())
    }

    /// How many components the path has: 0 for the root.
    pub fn depth(&self) -> usize {
        self.component_bytes().count()
    }

    /// True if this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.0.is_empty()
            || (self.0.starts_with(&ancestor.0) && matches!(self.0.get(ancestor.0.len()), None | Some(b'/')))
    }

    /// This path with its leading `from` replaced by `to`; `None` if it is not within `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        let tail = &self.0[from.0.len()..];
        let tail = tail.strip_prefix(b"/").unwrap_or(tail);
        Some(if tail.is_empty() { to.clone() } else { to.join_bytes(tail) })
    }

    /// True for `.hotspare` at the root and everything below it.
    pub fn is_reserved(&self) -> bool {
        self.component_bytes().next() == Some(RESERVED)
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&*self.0, &*other.0);
        let common = a.len().min(b.len());
        // Paths that are compared often begin alike: skip that by whole runs.
        let mut at = 0;
        while at + 32 <= common && a[at..at + 32] == b[at..at + 32] {
            at += 32;
        }
        while at < common && a[at] == b[at] {
            at += 1;
        }
        // The slash sorts below every byte of a name, which is what comparing component by component means.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
        a.get(at).map(key).cmp(&b.get(at).map(key))
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        write!(f, "{}", Escaped(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Self::parse(bytes).map_err(serde::de::Error::custom)
    }
}

/// Bytes for a person: UTF-8 as it is, control characters and other bytes as `\xNN`, one line always.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    let mut buffer = [0; 4];
                    for byte in character.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_directory_sorts_before_its_content_and_its_content_before_its_next_sibling() {
        let mut paths = [path("a-b"), path("a/b/c"), path("a"), path("b"), path("a/b"), path("a0"), path("")];
        paths.sort();
        let text: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(text, [".", "a", "a/b", "a/b/c", "a-b", "a0", "b"]);
    }

    #[test]
    fn long_paths_compare_as_their_components_do() {
        let long = "d".repeat(40);
        let texts = ["", "/a", "/a/b", "/a-b", "/ab", "/b", "0", "e"].map(|tail| format!("{long}{tail}"));
        for a in &texts {
            for b in &texts {
                let by_components = path(a).components().cmp(path(b).components());
                assert_eq!(path(a).cmp(&path(b)), by_components, "{a} and {b}");
            }
        }
    }

    #[test]
    fn what_would_leave_the_home_is_no_path() {
        for bytes in [&b"/etc"[..], b"a//b", b"a/", b"..", b"a/../b", b".", b"a\0b"] {
            assert!(RelPath::parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(RelPath::parse(&[b'a'; 256]).is_err());
        assert!(RelPath::parse(&[b'a'; 255]).is_ok());
    }

    #[test]
    fn rebase_replaces_whole_components_only() {
        assert_eq!(path("a/b/c").rebase(&path("a/b"), &path("x")), Some(path("x/c")));
        assert_eq!(path("a/b").rebase(&path("a/b"), &path("x/y")), Some(path("x/y")));
        assert_eq!(path("a/bc").rebase(&path("a/b"), &path("x")), None);
        assert_eq!(path("a").rebase(&path(""), &path("x")), Some(path("x/a")));
    }

    #[test]
    fn names_are_shown_on_one_line_whatever_their_bytes() {
        assert_eq!(RelPath::parse(b"a\nb\xff\xc3\xa9").unwrap().to_string(), "a\\x0ab\\xff\u{e9}");
    }
}
