//! The help of every command, pinned: whoever changes it sees what people will read.

use clap::Command;

/// As wide as it is drawn at most; fixed, so that the terminal of whoever runs the test does not matter.
const WIDTH: usize = 100;

fn help_of(command: &mut Command) -> String {
    let text = command.render_long_help().to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_help_of_the_whole_is_pinned() {
    insta::assert_snapshot!("hotspare", help_of(&mut hotspare::cli::command().term_width(WIDTH)));
}

#[test]
fn the_help_of_every_command_is_pinned() {
    let mut top = hotspare::cli::command().term_width(WIDTH);
    top.build();
    let commands: Vec<_> = top.get_subcommands_mut().filter(|command| command.get_name() != "help").collect();
    assert_eq!(commands.len(), 17);
    for command in commands {
        let name = command.get_name().to_owned();
        insta::assert_snapshot!(name, help_of(command));
    }
}

#[test]
fn every_command_has_a_short_and_a_long_description_and_examples() {
    for command in hotspare::cli::command().get_subcommands() {
        let name = command.get_name();
        let (short, long) = (command.get_about(), command.get_long_about());
        assert!(short.is_some() && long.is_some(), "{name}");
        assert_ne!(short.map(ToString::to_string), long.map(ToString::to_string), "{name}");
        let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.starts_with("Examples:\n"), "{name}");
    }
}
