//! hotspare keeps a live, crash-consistent copy of a directory (a Jenkins home) on standby nodes.
//!
//! The house has floors; a module uses only lower floors and its own folder (`tests/floors.rs` holds it to that):
//!
//! | floor | rooms | what they know |
//! |---|---|---|
//! | 0 words | [`words`] | paths, entries, positions |
//! | 1 thought | [`thought`] | trees, plans, deltas, generations, wire formats, sessions: pure, no system calls, no clock |
//! | 2 hands | `fs`, `spool`, `watch`, `walk`, `capture`, `audit`, `index`, `journal`, `reveal`, `jenkins` | files |
//! | 3 mouth | `net` | peers |
//! | 4 life | `daemon`, `observe`, `control` | time and tasks |
//! | 5 face | `config`, `cli` | people |

pub mod audit;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod fs;
pub mod index;
pub mod jenkins;
pub mod journal;
pub mod net;
pub mod observe;
pub mod reveal;
pub mod spool;
pub mod thought;
pub mod walk;
pub mod watch;
pub mod words;
