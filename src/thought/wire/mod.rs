//! What bytes mean between two nodes, and on disk.
//!
//! [`frame`] is the one framing in use: on the control stream, in generation streams, and in the journal.

pub mod frame;
