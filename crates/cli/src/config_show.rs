//! `config show`: what this command line would use, so that one sees which database one is about to change.
//!
//! Promises to connect to nothing and to print no secret. A setting that is new anywhere in the program appears by itself.

use crate::args::{CommandLine, Connection};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Row};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use telemetry::config::{ALL_VARIABLES, masked_url, read_secret};

const MASK: &str = "***";

/// Every variable of ours that is set in the environment.
type Environment = BTreeMap<String, String>;

/// One setting as it is shown.
#[derive(Debug, PartialEq, Serialize)]
struct Setting {
    variable: String,
    /// Secrets are masked; none where it is not set and has no default.
    value: Option<String>,
    source: String,
}

impl Row for Setting {
    const COLUMNS: &'static [&'static str] = &["variable", "value", "source"];

    fn cells(&self) -> Vec<String> {
        vec![self.variable.clone(), self.value.clone().unwrap_or_else(|| "none".to_owned()), self.source.clone()]
    }
}

pub(crate) fn show(connection: &Connection, matches: &ArgMatches, output: &Output) -> Result<Exit, Failure> {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok().filter(|name| ALL_VARIABLES.contains(&name.as_str()))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    let (settings, faults) = settings(connection, matches, &std::env::vars_os().filter_map(ours).collect());
    output.rows(&settings)?;
    if faults.is_empty() { Ok(Exit::Ok) } else { Err(Failure::new(Exit::Usage, faults.join("; "))) }
}

/// Our own settings, then what is set for our siblings; and what cannot be used.
fn settings(connection: &Connection, matches: &ArgMatches, environment: &Environment) -> (Vec<Setting>, Vec<String>) {
    let (mut settings, mut faults) = (Vec::new(), Vec::new());
    for arg in own_arguments(&CommandLine::program()) {
        let variable = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
        let (value, source) = match told(connection, arg.get_id().as_str()) {
            Some((Ok(value), Some(file))) => (value, format!("file {}", file.display())),
            Some((Ok(value), None)) => (value, given(&arg, matches, environment).1),
            Some((Err(fault), _)) => {
                faults.push(format!("{variable}: {fault}"));
                (None, "cannot be used".to_owned())
            }
            None => given(&arg, matches, environment),
        };
        settings.push(Setting { variable, value, source });
    }
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

/// A value, masked, or why it cannot be used.
type Masked = Result<Option<String>, String>;

/// The value of a setting that may be secret or stand in a file, and that file; `None` for all other settings.
fn told<'a>(connection: &'a Connection, id: &str) -> Option<(Masked, Option<&'a Path>)> {
    let stores = &connection.stores;
    let masked = |url: String| masked_url(&url);
    match id {
        "mysql_url" => Some((stores.mysql_url().map(|url| Some(masked(url))), stores.mysql_url_file.as_deref())),
        "redis_url" => Some((stores.redis_url().map(|url| Some(masked(url))), stores.redis_url_file.as_deref())),
        "cache_redis_url" => Some((stores.cache_redis_url().map(|url| url.map(masked)), stores.cache_redis_url_file.as_deref())),
        "url" => Some((Ok(Some(masked(connection.url.clone()))), None)),
        "token" => {
            let (token, file) = (connection.token.as_deref(), connection.token_file.as_deref());
            Some((read_secret(token, file).map(|token| token.map(|_| MASK.to_owned())), file))
        }
        _ => None,
    }
}

/// Value and source of any other setting. One of another command was not read, so the environment and its default tell it.
fn given(arg: &Arg, matches: &ArgMatches, environment: &Environment) -> (Option<String>, String) {
    let read = matches.try_get_raw(arg.get_id().as_str());
    let of_this_command = read.is_ok();
    let value = read.ok().flatten().and_then(|mut values| values.next()).map(|value| value.to_string_lossy().into_owned());
    let default = || arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let in_environment = || arg.get_env().and_then(|name| environment.get(&*name.to_string_lossy())).cloned();
    let source = of_this_command.then(|| matches.value_source(arg.get_id().as_str())).flatten();
    match (source, in_environment()) {
        (Some(ValueSource::CommandLine), _) => (value, "flag".into()),
        (Some(ValueSource::EnvVariable), _) => (value, "environment".into()),
        (None, Some(set)) if !of_this_command => (Some(set), "environment".into()),
        _ => (default(), "default".into()),
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
