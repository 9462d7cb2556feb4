//! Cuts of real homes, compared with what is on disk.

#![expect(
    clippy::disallowed_methods,
    reason = "a test writes the home that is captured, in its own temporary directory"
)]

pub(crate) mod bench;
mod churn;
mod economy;
mod grown;
mod large;
mod late;
mod prefix;
mod random;
mod script;
