//! Floor 1: what can be thought without touching anything: no file system, network, clock or runtime is named here.

pub mod compare;
pub mod delta;
pub mod dice;
pub mod digest;
pub mod dirty;
pub mod filter;
pub mod fuse;
pub mod generation;
pub mod plan;
pub mod session;
pub mod store;
pub mod timing;
pub mod tree;
pub mod wire;
