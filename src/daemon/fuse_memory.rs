//! What a standby remembers of its fuse between its runs: a loss that is half done when it restarts is not half forgiven.
//!
//! **Format, version 1:** `fuse.json` in the state directory, one JSON object: `version`, and `peaks`, a list of `[seconds, entries]`: when there were how
//! many entries, each fewer than the one before. It is replaced as a whole.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::state::{read_capped, write_atomically};
use crate::thought::fuse::Fuse;

/// The longest file read.
const CAP: u64 = 1 << 20;
/// The format written.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    fuse: Fuse,
}

/// What is remembered; what cannot be read is forgotten.
pub(super) fn recall(state: &Path) -> Fuse {
    let bytes = match read_capped(&path(state), CAP) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Fuse::default(),
        Err(error) => {
            tracing::warn!(error = super::explain(&error), "what the fuse remembered cannot be read; it begins anew");
            return Fuse::default();
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(Stored { version: VERSION, fuse }) => fuse,
        _ => {
            tracing::warn!(file = %path(state).display(), "what the fuse remembered is damaged or of another version; it begins anew");
            Fuse::default()
        }
    }
}

/// Remembers it, durably. That it cannot be remembered keeps nothing from going on: the fuse works all the same.
pub(super) fn keep(state: &Path, fuse: &Fuse) {
    let stored = Stored { version: VERSION, fuse: fuse.clone() };
    let Ok(bytes) = serde_json::to_vec(&stored) else { return };
    if let Err(error) = write_atomically(&path(state), &bytes, 0o600) {
        tracing::warn!(error = super::explain(&error), "cannot remember the fuse across a restart");
    }
}

fn path(state: &Path) -> PathBuf {
    state.join("fuse.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thought::fuse::FuseOptions;
    use crate::words::entry::Timestamp;

    #[test]
    fn what_was_kept_is_recalled_as_it_is_written_and_what_is_damaged_is_forgotten() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(recall(state.path()), Fuse::default());
        let mut fuse = Fuse::default();
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        for (second, before) in [(7, 5_000), (9, 4_000)] {
            fuse.judge(FuseOptions::default(), (before, before - 1_000), 1_000, at(second)).unwrap();
        }
        keep(state.path(), &fuse);
        assert_eq!(recall(state.path()), fuse);
        let text = String::from_utf8(read_capped(&path(state.path()), CAP).unwrap()).unwrap();
        assert_eq!(text, r#"{"version":1,"peaks":[[7,5000],[9,4000]]}"#);
        for damaged in ["", "{", r#"{"version":2,"peaks":[]}"#] {
            write_atomically(&path(state.path()), damaged.as_bytes(), 0o600).unwrap();
            assert_eq!(recall(state.path()), Fuse::default(), "{damaged}");
        }
    }
}
