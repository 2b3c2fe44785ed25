//! `completions`: a script for the shell.

use crate::args::{CommandLine, Shell};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use clap_complete::shells;

pub(crate) fn run(shell: Shell, output: &Output) -> Result<Exit, Failure> {
    output.text(&script(shell))?;
    Ok(Exit::Ok)
}

/// Made in memory: writing it to a reader that has left would panic.
fn script(shell: Shell) -> String {
    let (mut program, mut script) = (CommandLine::program(), Vec::new());
    let name = program.get_name().to_owned();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut program, name, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut program, name, &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut program, name, &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_noun() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for command in CommandLine::program().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?} does not know {}", command.get_name());
            }
        }
    }
}
