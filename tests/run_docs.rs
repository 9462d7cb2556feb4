//! What the documentation tells people to type works as it stands there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make, change and remove files of their own")]

mod common;

use std::path::Path;
use std::process::Command;

use common::finish;
use common::pair::{Node, Pair};

const ID: &str = "hs1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The lines of the fenced block that has `word` in it, without empty ones.
fn block(text: &str, word: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let found: Vec<&str> = blocks.filter(|block| block.contains(word)).collect();
    assert_eq!(found.len(), 1, "one block has {word}");
    found[0].lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// A line of the walk-through, with the example's paths replaced by those of the test.
fn shell(pair: &Pair, line: &str) -> Command {
    let line = line
        .replace("config/primary.toml", pair.config(&pair.primary).to_str().unwrap())
        .replace("config/standby.toml", pair.config(&pair.standby).to_str().unwrap())
        .replace("/tmp/hotspare-demo/a/home", pair.bed.source().to_str().unwrap());
    assert!(!line.contains("/tmp/hotspare-demo"), "{line}");
    // The program without a person's own environment, under the name that people type.
    let program = pair.bed.program();
    let bin = pair.bed.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program.get_program(), bin.join("hotspare")).unwrap();
    }
    let mut command = Command::new("bash");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = std::env::var("PATH").unwrap();
    command.args(["-euc", &line]).env("PATH", format!("{}:{path}", bin.display()));
    command
}

fn walk_through(pair: &mut Pair, lines: &[String]) {
    for line in lines {
        if let Some(daemon) = line.strip_suffix(" &") {
            // So that what is killed in the end is the daemon.
            let running = pair.bed.start(shell(pair, &format!("exec {daemon}")));
            let is_primary = line.contains("primary.toml");
            let node = if is_primary { &mut pair.primary } else { &mut pair.standby };
            node.daemon = Some(running);
            // A person looks at the log before typing on.
            pair.until("the daemon answers", |pair| {
                let node: &Node = if is_primary { &pair.primary } else { &pair.standby };
                pair.ask(node, &["status"]).code == Some(0)
            });
            continue;
        }
        let ended = finish(shell(pair, line));
        assert_eq!(ended.code, Some(0), "{line}\n{}{}\n{}", ended.stdout, ended.stderr, pair.told());
        if line.contains("hotspare verify") {
            assert!(ended.stdout.contains("\nequal: "), "{line}\n{}", ended.stdout);
        }
    }
}

#[test]
fn the_walk_through_of_the_readme_and_that_of_the_examples() {
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/primary.toml")).unwrap();
    let comment = example.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| {
        // What stands behind the command is for people.
        line.split("  # ").next().unwrap().trim_end().to_owned()
    });
    let text = readme();
    let blocks = [block(&text, "hotspare run -c"), block(&text, "hotspare wait -c")].concat();
    for lines in [blocks, comment.collect()] {
        assert!(lines.iter().filter(|line| line.ends_with(" &")).count() == 2, "{lines:?}");
        let mut pair = Pair::new();
        walk_through(&mut pair, &lines);
        pair.until_equal();
    }
}

#[test]
fn the_first_command_of_the_readme_makes_a_copy_of_any_directory() {
    let lines = block(&readme(), " mirror ");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let pair = Pair::new();
    common::build::home(&pair.bed.source(), 50);
    let line = line
        .replace("cargo run --release -- ", "exec hotspare ")
        .replace("SRC", pair.bed.source().to_str().unwrap())
        .replace("DST", pair.bed.destination().to_str().unwrap());
    let mut running = pair.bed.start(shell(&pair, &line));
    pair.bed.wait_until_equal(&mut running);
}

#[test]
fn the_command_of_the_readme_that_runs_the_tests_is_there() {
    for line in block(&readme(), "tests/run") {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&line);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o111, 0o111, "{line} can be run");
    }
}

/// The words of the first command in `text` that begins with `hotspare`, as a shell would part them; `None` if there is none.
fn words(text: &str) -> Option<Vec<String>> {
    let begin = text.split_whitespace().position(|word| word == "hotspare")?;
    let all: Vec<&str> = text.split_whitespace().collect();
    let is_end = |word: &str| matches!(word, "&&" | "||" | "|" | "&" | ">");
    let command = all[begin..].iter().take_while(|word| !is_end(word));
    let words = command.map(|word| word.trim_matches(['\'', '"']).replace("hs1-...", ID).replace("COMMAND", "run"));
    Some(words.filter(|word| !word.starts_with('[')).collect())
}

fn assert_parses(text: &str) {
    let words = words(text).unwrap();
    match hotspare::cli::command().try_get_matches_from(&words) {
        Ok(_) => {}
        Err(error) => assert!(!error.use_stderr(), "{text}: {words:?}: {error}"),
    }
}

#[test]
fn every_command_that_the_readme_names_in_a_line_is_one() {
    let text = readme();
    let fenced = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let inline = text.split("```").step_by(2).flat_map(|plain| plain.split('`').skip(1).step_by(2));
    let named: Vec<&str> = fenced.filter(|line| line.starts_with("hotspare ")).chain(inline).collect();
    let mut count = 0;
    for text in named.iter().filter(|text| text.starts_with("hotspare ")) {
        // `trust "$(hotspare id ..)"` has one command in another: the walk-through runs it.
        if !text.contains("$(") {
            assert_parses(text);
            count += 1;
        }
    }
    assert!(count > 10, "{named:?}");
    for command in hotspare::cli::command().get_subcommands().map(clap_name) {
        let is_named = |text: &&str| text.split_whitespace().any(|word| word == command);
        assert!(named.iter().any(is_named), "the README does not name {command}");
    }
}

fn clap_name(command: &clap::Command) -> String {
    command.get_name().to_owned()
}

#[test]
fn every_example_of_the_help_is_accepted() {
    let mut count = 0;
    let mut root = hotspare::cli::command();
    for name in root.get_subcommands().map(clap_name).collect::<Vec<_>>() {
        let help = root.find_subcommand_mut(&name).unwrap().render_long_help().to_string();
        let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{name} has no examples"));
        for line in examples.lines().take_while(|line| line.starts_with("  ")) {
            // Two spaces part a command from what it is for.
            assert_parses(line.trim_start().split("  ").next().unwrap());
            count += 1;
        }
    }
    assert!(count > 12);
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    let text = readme();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.contains("://")) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(target).exists(), "{target}");
    }
}
