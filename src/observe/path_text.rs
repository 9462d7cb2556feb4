//! Paths in JSON.
//!
//! JSON is Unicode and paths are bytes, so a path is written with an escape that loses nothing: a backslash is `\\`; a control
//! character, and a byte that is not part of valid UTF-8, is `\xNN` (two lower-case hexadecimal digits a byte); all else stands
//! for itself. The home's root is `.`. (JSON's own quoting comes on top: `\xff` stands in a document as `"\\xff"`.)

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::words::path::{PathError, RelPath};

/// A path that is read and written as escaped text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathText(pub RelPath);

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathTextError {
    /// A backslash is followed by neither a backslash nor `x` and two hexadecimal digits.
    #[error("{0:?} has a backslash that begins no escape: write \\\\ for a backslash and \\xNN for a byte")]
    Escape(String),
    /// The text stands for bytes that are no path inside a home.
    #[error("{0:?} is no path inside a home")]
    Path(String, #[source] PathError),
}

impl PathText {
    /// Reads the escaped form.
    pub fn parse(text: &str) -> Result<Self, PathTextError> {
        if text == "." {
            return Ok(Self(RelPath::root()));
        }
        let bytes = unescape(text.as_bytes()).ok_or_else(|| PathTextError::Escape(text.to_owned()))?;
        let path = RelPath::parse(&bytes).map_err(|source| PathTextError::Path(text.to_owned(), source))?;
        Ok(Self(path))
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                bytes.push(b'\\');
                tail
            }
            (b'\\', [b'x', high, low, tail @ ..]) => {
                bytes.push((hex_digit(*high)? << 4) | hex_digit(*low)?);
                tail
            }
            (b'\\', _) => return None,
            (byte, tail) => {
                bytes.push(byte);
                tail
            }
        };
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

impl From<RelPath> for PathText {
    fn from(path: RelPath) -> Self {
        Self(path)
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_root() {
            return f.write_str(".");
        }
        for chunk in self.0.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    _ if character.is_control() => {
                        let mut buffer = [0; 4];
                        character.encode_utf8(&mut buffer).bytes().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
                    }
                    _ => write!(f, "{character}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(bytes: &[u8]) -> String {
        PathText(RelPath::parse(bytes).unwrap()).to_string()
    }

    #[test]
    fn names_that_are_no_text_are_written_without_loss() {
        assert_eq!(text_of(b""), ".");
        assert_eq!(text_of("jobs/bäume".as_bytes()), "jobs/bäume");
        assert_eq!(text_of(b"a\\b"), "a\\\\b");
        assert_eq!(text_of(b"two\nlines\xff"), "two\\x0alines\\xff");
    }

    #[test]
    fn a_wrong_escape_is_refused() {
        for text in ["a\\b", "a\\x1", "a\\xg0", "\\"] {
            assert!(matches!(PathText::parse(text), Err(PathTextError::Escape(_))), "{text}");
        }
        assert!(matches!(PathText::parse("a/../b"), Err(PathTextError::Path(..))));
        assert!(matches!(PathText::parse("a\\x00"), Err(PathTextError::Path(..))));
    }

    proptest! {
        #[test]
        fn every_path_comes_back(names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 1..4)) {
            if let Ok(path) = RelPath::parse(&names.join(&b'/')) {
                let json = serde_json::to_string(&PathText(path.clone())).unwrap();
                prop_assert_eq!(serde_json::from_str::<PathText>(&json).unwrap().0, path);
            }
        }
    }
}
