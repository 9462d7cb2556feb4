//! The configuration file: TOML in, checked [`Settings`] out.
//!
//! Two types and a judgement between them: `Raw` is what the file says (texts with the place each came from, unknown keys
//! refused), [`Settings`] is what it means. Every value that does not fit is reported with file, line, key, what was found and
//! what is allowed; all of them at once, not one a run.
//!
//! **Overrides.** A variable `HOTSPARE_<SECTION>_<KEY>` replaces one single-valued key (`HOTSPARE_NODE_NAME`,
//! `HOTSPARE_BATCH_QUIET`); lists and peers have none. The library reads no environment: the caller passes the pairs. Names
//! outside the sections of the file are not ours and are left alone, and so is what Kubernetes makes for every Service
//! (`HOTSPARE_NODE_SERVICE_HOST`, `HOTSPARE_NODE_PORT_7420_TCP`); within a section an unknown key is an error, as in the file.
//!
//! **Accepted, not yet acted upon.** So that one file serves across versions, some keys are checked although this version does
//! nothing with them. [`Settings::dormant`] lists those that are set; `run` warns of each. They are the
//! history of `[standby]`, all of `[failover]` and `[hooks]`, and `observe.http`.

mod changes;
mod error;
mod judge;
mod raw;
mod settings;
#[cfg(test)]
mod tests;
mod units;

pub use error::{ConfigError, Origin, Problem};
pub use settings::{
    Address, Backend, Batch, Engine, Failover, Hooks, LogFormat, Node, Observe, Peer, PeerId, PeerIdError, Preset,
    Replicate, Reserve, Role, Settings, Standby, Tls, Watch,
};
