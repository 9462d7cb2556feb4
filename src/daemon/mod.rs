//! Life: the tasks of a node, each owning its state.

pub mod bound;
pub mod catch_up;
pub mod certificates;
mod courier;
pub mod filters;
mod fuse_memory;
pub mod holder;
pub mod keeper;
pub mod keys;
pub mod memory;
pub mod node;
pub mod peers;
pub mod primary;
pub mod roomless;
pub mod sending;
pub mod shipping;
pub mod standby;
pub mod unassigned;
pub mod window;

/// An error with all its causes, on one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
