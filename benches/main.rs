//! How fast it is: the parts, and the whole program beside rsync on the same trees; and what holds under fire, beside what it replaces.
//!
//! ```text
//! cargo bench                        everything
//! cargo bench -- parts               cases with `parts` in their name
//! HOTSPARE_BENCH_ROUNDS=7 HOTSPARE_BENCH_DIR=/srv/scratch cargo bench -- first
//! ```
//!
//! Three rounds by default, in the system's directory for temporary files; `ground` says how they are told. CI compiles this and runs
//! nothing of it: what a timing says depends on the machine and on what else it does.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads the clock, and makes and removes files as other programs do"
)]

mod copiers;
mod ground;
mod parts;
mod rivals;
mod whole;

fn main() -> anyhow::Result<()> {
    let Some(ground) = ground::Ground::find()? else { return Ok(()) };
    parts::measure(&ground)?;
    whole::measure(&ground)?;
    rivals::measure(&ground)
}
