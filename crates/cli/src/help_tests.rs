//! The help of the program and of every command, as it is shown on a terminal of 100 columns.
//!
//! A command is found by itself. After a change look at the differences and accept them:
//! `INSTA_UPDATE=always cargo test -p cli help`.

use crate::args::CommandLine;
use clap::Command;

const WIDTH: usize = 100;

/// The command and those below it, each with its words.
fn tree(words: &str, command: &Command) -> Vec<(String, Command)> {
    let below = command.get_subcommands().filter(|command| command.get_name() != "help");
    let below = below.flat_map(|command| tree(&format!("{words} {}", command.get_name()), command));
    [(words.to_owned(), command.clone())].into_iter().chain(below).collect()
}

#[test]
fn every_command_has_the_help_that_was_looked_at() {
    let mut program = CommandLine::program().term_width(WIDTH);
    program.build();
    for (words, mut command) in tree("inventoryctl", &program) {
        let short = command.render_help().to_string();
        let listed = short.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        assert!(listed.lines().all(|line| !line.starts_with("   ")), "a command of {words} says more than fits on its line:\n{listed}");
        let is_program = words == "inventoryctl";
        // The reference of what all commands have stands once.
        let mut command = command.mut_args(|arg| if arg.is_global_set() && !is_program { arg.hide(true) } else { arg });
        let help = format!("$ {words} -h\n{short}\n$ {words} --help\n{}", command.render_long_help());
        assert_eq!(help.lines().find(|line| line.chars().count() > WIDTH), None, "{words}");
        insta::assert_snapshot!(words.replace(' ', "-"), help);
    }
}

#[test]
fn every_command_and_argument_says_what_it_is_for() {
    let mut program = CommandLine::program();
    program.build();
    for (words, command) in tree("inventoryctl", &program) {
        assert!(command.get_about().is_some(), "{words} says nothing");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{words}: {} says nothing", argument.get_id());
        }
    }
}
