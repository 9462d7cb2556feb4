//! Jenkins, as a home knows it: homes that are made, the load of a live controller on one, and what a copy of it must show.
//!
//! Tests, benches and people share this one load, so that all of them speak of the same. It follows what Jenkins writes, in which order and by which
//! calls; what each build writes follows from its number, so that a copy can be judged by itself.
//!
//! | file | what |
//! |---|---|
//! | [`home`] | a generator of homes, sized, by seed |
//! | [`load`] | writers that do what a busy controller does |
//! | [`ledger`] | what they have done |
//! | [`checks`] | the rules that a copy must keep |
//! | `plan` | what one build writes |
//! | `instruments` | what tells one instant from two |
//! | `pen` | the system calls of Jenkins |
//! | [`secret`], `xml`, `zip` | formats |

pub mod checks;
pub mod home;
pub(crate) mod instruments;
pub mod ledger;
pub mod load;
mod pen;
mod plan;
pub mod secret;
mod xml;
mod zip;

pub use pen::PenError;
