//! `config show`: what this command line would use, so that one sees which database one is about to change.
//!
//! Promises to connect to nothing and to print no secret. A setting that is new anywhere in the program appears by itself.

use crate::args::{CommandLine, Connection};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use clap::{Arg, ArgMatches};
use telemetry::config::shown::{self, Environment, MASK, Setting, Told};
use telemetry::config::{masked_url, read_secret};

impl Row for Setting {
    const COLUMNS: &'static [&'static str] = &["variable", "value", "source"];

    fn cells(&self) -> Vec<String> {
        vec![self.variable.clone(), self.value.clone().unwrap_or_else(|| "none".to_owned()), self.source.clone()]
    }
}

pub(crate) fn show(connection: &Connection, matches: &ArgMatches, output: &Output) -> Result<Exit, Failure> {
    let (settings, faults) = settings(connection, matches, &shown::environment());
    output.rows(&settings)?;
    if faults.is_empty() { Ok(Exit::Ok) } else { Err(Failure::new(Exit::Usage, faults.join("; "))) }
}

/// Our own settings, then what is set for our siblings; and what cannot be used.
fn settings(connection: &Connection, matches: &ArgMatches, environment: &Environment) -> (Vec<Setting>, Vec<String>) {
    let (mut settings, faults) = shown::settings(&own_arguments(&CommandLine::program()), matches, environment, |id| told(connection, id));
    let of_siblings = environment.keys().filter(|name| !settings.iter().any(|setting| setting.variable == **name));
    let set =
        |name: &String| Setting { variable: name.clone(), value: Some("set, for other programs".into()), source: "environment".into() };
    let of_siblings: Vec<_> = of_siblings.map(set).collect();
    settings.extend(of_siblings);
    (settings, faults)
}

/// Arguments with a variable, of all commands, each once.
fn own_arguments(program: &clap::Command) -> Vec<Arg> {
    let mut arguments: Vec<Arg> = program.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect();
    for argument in program.get_subcommands().flat_map(own_arguments) {
        if !arguments.iter().any(|known| known.get_env() == argument.get_env()) {
            arguments.push(argument);
        }
    }
    arguments
}

/// What is shown of a setting that may be secret or stand in a file; `None` for all others.
fn told<'a>(connection: &'a Connection, id: &str) -> Option<Told<'a>> {
    match id {
        "url" => Some((Ok(Some(masked_url(&connection.url))), None)),
        "token" => {
            let (token, file) = (connection.token.as_deref(), connection.token_file.as_deref());
            Some((read_secret(token, file).map(|token| token.map(|_| MASK.to_owned())), file))
        }
        _ => connection.stores.told(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    fn shown(flags: &[&str], environment: &[(&str, &str)]) -> (Vec<Setting>, Vec<String>) {
        let line = [&["inventoryctl", "config", "show"], flags].concat();
        let without_environment = CommandLine::program().mut_args(|arg| arg.env(None::<&str>));
        let matches = without_environment.try_get_matches_from(line).unwrap();
        let connection = CommandLine::from_arg_matches(&matches).unwrap().connection;
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings(&connection, &matches, &environment)
    }

    fn line(settings: &[Setting], variable: &str) -> String {
        let setting = settings.iter().find(|setting| setting.variable == variable).unwrap();
        format!("{} ({})", setting.cells()[1], setting.source)
    }

    #[test]
    fn each_setting_of_every_command_is_there_once() {
        let (settings, faults) = shown(&[], &[]);
        let mut variables: Vec<_> = settings.iter().map(|setting| setting.variable.as_str()).collect();
        assert!(variables.contains(&"INVENTORY_SHARDS") && variables.contains(&"INVENTORY_TOKEN_FILE"), "{variables:?}");
        variables.sort_unstable();
        assert!(variables.windows(2).all(|pair| pair[0] != pair[1]), "{variables:?}");
        assert!(faults.is_empty() && settings.iter().all(|setting| setting.source == "default"), "{settings:?}");
        assert_eq!(line(&settings, "INVENTORY_CACHE_TTL"), "5m (default)");
        assert_eq!(line(&settings, "INVENTORY_LOG"), "warn (default)");
        assert_eq!(line(&settings, "INVENTORY_TOKEN"), "none (default)");
    }

    #[test]
    fn passwords_and_tokens_are_masked_and_siblings_only_named() {
        let flags = ["--mysql-url", "mysql://root:s3cret@db/shop", "--token", "s3cret", "--url", "http://u:s3cret@shop"];
        let environment = [("INVENTORY_SHARDS", "8"), ("INVENTORY_API_LISTEN", "s3cret")];
        let (settings, _) = shown(&flags, &environment);
        assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
        assert_eq!(line(&settings, "INVENTORY_MYSQL_URL"), "mysql://root:***@db/shop (flag)");
        assert_eq!(line(&settings, "INVENTORY_TOKEN"), "*** (flag)");
        assert_eq!(line(&settings, "INVENTORY_SHARDS"), "8 (environment)");
        assert_eq!(line(&settings, "INVENTORY_API_LISTEN"), "set, for other programs (environment)");
    }

    #[test]
    fn what_stands_in_a_file_is_shown_with_its_place_and_a_file_that_is_not_there_is_a_fault() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "mysql://shop:s3cret@db/shop\n").unwrap();
        let path = file.path().to_str().unwrap();
        let (settings, faults) = shown(&["--mysql-url-file", path, "--token-file", "/nowhere/token"], &[]);
        assert_eq!(line(&settings, "INVENTORY_MYSQL_URL"), format!("mysql://shop:***@db/shop (file {path})"));
        assert_eq!(line(&settings, "INVENTORY_TOKEN"), "none (cannot be used)");
        assert!(faults.len() == 1 && faults[0].starts_with("INVENTORY_TOKEN: cannot read the file /nowhere/token"), "{faults:?}");
    }
}
