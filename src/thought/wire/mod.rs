//! What bytes mean between two nodes, and on disk.
//!
//! [`frame`] is the one framing in use, on the control stream and on data streams; [`message`] says what the frames mean.

pub mod frame;
pub mod message;
