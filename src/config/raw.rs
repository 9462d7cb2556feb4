//! What the file says.
