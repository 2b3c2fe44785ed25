//! What a check is and what it finds.
//!
//! A check is a function from facts to a verdict, with what rests on it; the tables of the other files are made of these.

use serde::Serialize;

/// How bad it is. Only `Warn` and `Bad` deviate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Worth knowing; may be meant.
    Note,
    /// Something is slower, less safe or nearer to its end than it should be.
    Warn,
    /// A guarantee does not hold, or the programs do not run.
    Bad,
}

impl State {
    /// As JSON writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Where a line of a cure belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum At {
    /// A statement for a user with the rights of an administrator.
    #[serde(rename = "sql")]
    Sql,
    /// The server's own file, so that it holds after a restart too.
    #[serde(rename = "my.cnf")]
    MyCnf,
    #[serde(rename = "redis.conf")]
    RedisConf,
    #[serde(rename = "shell")]
    Shell,
    /// The environment of the programs.
    #[serde(rename = "setting")]
    Setting,
    /// What no line can do.
    #[serde(rename = "do")]
    Do,
}

impl At {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::MyCnf => "my.cnf",
            Self::RedisConf => "redis.conf",
            Self::Shell => "shell",
            Self::Setting => "setting",
            Self::Do => "do",
        }
    }
}

/// One line of a cure, to be typed as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cure {
    pub at: At,
    pub line: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    pub found: String,
    lost: String,
    pub cure: Vec<Cure>,
}

impl Verdict {
    fn new(state: State, found: impl Into<String>) -> Self {
        Self { state, found: found.into(), lost: String::new(), cure: Vec::new() }
    }

    pub fn ok(found: impl Into<String>) -> Self {
        Self::new(State::Ok, found)
    }

    pub fn note(found: impl Into<String>) -> Self {
        Self::new(State::Note, found)
    }

    pub fn warn(found: impl Into<String>) -> Self {
        Self::new(State::Warn, found)
    }

    pub fn bad(found: impl Into<String>) -> Self {
        Self::new(State::Bad, found)
    }

    /// Says what is lost as it stands.
    pub fn lost(mut self, lost: impl Into<String>) -> Self {
        self.lost = lost.into();
        self
    }

    pub fn cure(mut self, at: At, line: impl Into<String>) -> Self {
        self.cure.push(Cure { at, line: line.into() });
        self
    }
}

/// One line of a table of checks.
pub struct Check<F> {
    /// Never changes, for programs read it.
    pub name: &'static str,
    /// What holds only while this is in order.
    pub rests: &'static str,
    /// `None` where the question does not arise.
    pub judge: fn(&F) -> Option<Verdict>,
}

/// What is examined; the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    MySql,
    /// The queue's Redis, and the cache's too where they are one.
    Redis,
    Cache,
    Api,
}

impl Subject {
    pub fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::Redis => "redis",
            Self::Cache => "cache",
            Self::Api => "api",
        }
    }
}

/// A row of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub subject: Subject,
    pub check: &'static str,
    pub state: State,
    pub found: String,
    pub rests: &'static str,
    /// Empty when all is in order.
    pub lost: String,
    pub cure: Vec<Cure>,
}

impl Finding {
    pub fn new(subject: Subject, check: &'static str, rests: &'static str, verdict: Verdict) -> Self {
        let Verdict { state, found, lost, cure } = verdict;
        Self { subject, check, state, found, rests, lost, cure }
    }
}

/// Runs a table of checks over what is known of a subject.
pub fn judge<F>(subject: Subject, checks: &[Check<F>], facts: &F) -> Vec<Finding> {
    let finding = |check: &Check<F>| Some(Finding::new(subject, check.name, check.rests, (check.judge)(facts)?));
    checks.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_the_words_that_programs_read() {
        let verdict = Verdict::warn("x = 0").lost("much").cure(At::Sql, "SET x = 1;").cure(At::MyCnf, "x = 1");
        let finding = Finding::new(Subject::MySql, "x", "all", verdict);
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            "{\"subject\":\"mysql\",\"check\":\"x\",\"state\":\"warn\",\"found\":\"x = 0\",\"rests\":\"all\",\"lost\":\"much\",\
             \"cure\":[{\"at\":\"sql\",\"line\":\"SET x = 1;\"},{\"at\":\"my.cnf\",\"line\":\"x = 1\"}]}"
        );
        for at in [At::Sql, At::MyCnf, At::RedisConf, At::Shell, At::Setting, At::Do] {
            assert_eq!(serde_json::to_value(at).unwrap(), at.name());
        }
    }
}
