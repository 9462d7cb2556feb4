//! What the daemon shows of itself: the types behind `hotspare status`.

pub mod health;
mod path_text;
pub mod status;

pub use path_text::{PathText, PathTextError};
