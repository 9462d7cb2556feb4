//! Floor 1: what can be thought without touching anything: no file system, network, clock or runtime is named here.

pub mod wire;
