//! The `hotspare` binary: a thin shell around the library.

fn main() -> std::process::ExitCode {
    hotspare::cli::main(std::env::args_os())
}
