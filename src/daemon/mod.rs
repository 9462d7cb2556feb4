//! Life: the tasks of a node, each owning its state.

pub mod keeper;
pub mod memory;
pub mod window;
