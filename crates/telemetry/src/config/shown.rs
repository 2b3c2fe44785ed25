//! Settings as they are shown to people: each with its value and where that comes from.
//!
//! Promises to show no secret. Which settings are secret is their owner's to say, who masks them.

use super::ALL_VARIABLES;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What stands for a secret of which nothing can be shown.
pub const MASK: &str = "***";

/// Every variable of ours that is set in the environment.
pub type Environment = BTreeMap<String, String>;

/// The variables of this process.
#[must_use]
pub fn environment() -> Environment {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok().filter(|name| ALL_VARIABLES.contains(&name.as_str()))?;
        Some((name, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(ours).collect()
}

/// One setting as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub variable: String,
    /// Secrets are masked; none where it is not set and has no default.
    pub value: Option<String>,
    /// `flag`, `environment`, `default`, `file …`, or that it cannot be used.
    pub source: String,
}

/// A value, masked, or why it cannot be used; and the file that it stands in.
pub type Told<'a> = (Result<Option<String>, String>, Option<&'a Path>);

/// The settings of `arguments`, all of which have a variable, and what of them cannot be used. `told` knows those that may be
/// secret or stand in a file, by the id of their argument, and is asked first.
pub fn settings<'a>(
    arguments: &[Arg],
    matches: &ArgMatches,
    environment: &Environment,
    told: impl Fn(&str) -> Option<Told<'a>>,
) -> (Vec<Setting>, Vec<String>) {
    let (mut settings, mut faults) = (Vec::with_capacity(arguments.len()), Vec::new());
    for arg in arguments {
        let variable = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
        let (value, source) = match told(arg.get_id().as_str()) {
            Some((Ok(value), Some(file))) => (value, format!("file {}", file.display())),
            Some((Ok(value), None)) => (value, given(arg, matches, environment).1),
            Some((Err(fault), _)) => {
                faults.push(format!("{variable}: {fault}"));
                (None, "cannot be used".to_owned())
            }
            None => given(arg, matches, environment),
        };
        settings.push(Setting { variable, value, source });
    }
    (settings, faults)
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
