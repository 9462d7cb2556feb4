//! Floor 0: the words everything else is said in. No file system, network, clock or runtime is named here.

pub mod entry;
pub mod path;
pub mod position;
