//! What the program says and returns when it cannot do what it is asked; run as a program, as people do.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const ID: &str = "hs1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn hotspare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOTSPARE_")) {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_wrong_command_line_is_2() {
    for args in [&["frobnicate"][..], &[], &["mirror", "only-one"], &["wait", "--timeout", "soon"], &["trust", "x"]] {
        let output = hotspare(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_0_and_go_to_stdout() {
    for args in [["--help"], ["--version"], ["-h"]] {
        let output = hotspare(&args);
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_missing_configuration_is_2_and_says_what_to_do() {
    let output = hotspare(&["status", "-c", "/nowhere/h.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "error: cannot read the configuration /nowhere/h.toml: No such file or directory (os error 2)\n\
                    hint: name the configuration with -c FILE; config/primary.toml is one to begin with\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_bad_configuration_is_2_and_names_the_line_for_every_command_that_reads_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.toml");
    write(&file, "[node]\nname = \"a\"\nhome = \"/srv/home\"\nlissten = \"x\"\n");
    let file = file.to_str().unwrap();
    let trust = ["trust", ID, "--name", "b"];
    for command in [&["run"][..], &["status"], &["wait"], &["verify"], &["id"], &trust, &["untrust", ID]] {
        let output = hotspare(&[command, &["-c", file]].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let expected = format!("{file}:4: node.lissten: found an unknown key; allowed: did you mean `listen`?");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

#[test]
fn no_daemon_is_3() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    for command in ["status", "wait", "verify"] {
        let output = hotspare(&[command, "--socket", socket]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let error = format!("error: no daemon is running for this configuration (socket {socket})\nhint: ");
        assert!(stderr(&output).starts_with(&error), "{}", stderr(&output));
    }
}

#[test]
fn the_environment_names_the_configuration_and_replaces_values_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("h.toml");
    write(&file, "[node]\nname = \"a\"\nhome = \"/srv/home\"\n");
    let status = |state: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
        command.arg("status").env("HOTSPARE_CONFIG", &file).env("HOTSPARE_NODE_STATE", state).output().unwrap()
    };
    let output = status(dir.path());
    assert!(
        stderr(&output).contains(&format!("(socket {}/control.sock)", dir.path().display())),
        "{}",
        stderr(&output)
    );
    let output = status(Path::new("relative"));
    assert!(stderr(&output).contains("environment variable HOTSPARE_NODE_STATE: node.state"), "{}", stderr(&output));
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(hotspare(&["completions", shell]).stdout).unwrap();
        for command in hotspare::cli::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{shell} {}", command.get_name());
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotspare"));
    let mut child =
        command.args(["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}
