//! What strikes stock: the kinds of faults.

use clap::ValueEnum;

/// A kind of fault. Where there are two instances, one of them is struck at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// An API is killed with -9 and started again
    KillApi,
    /// An API is killed whose COMMIT is on its way, which arrives late or is lost
    KillInCommit,
    /// The worker is killed with -9 and started again; not in rounds without Redis
    KillWorker,
    /// MySQL is killed and started again
    KillMysql,
    /// MySQL ends all connections of the APIs
    KillConnections,
    /// The connections of an API to MySQL are cut
    CutMysql,
    /// A COMMIT is held before MySQL, then arrives late or is lost
    LoseCommit,
    /// A COMMIT arrives, and its connection is cut before the reply
    LoseCommitReply,
    /// Plain SQL locks rows of stock from the last to the first, again and again, so that transactions deadlock
    OtherOrder,
    /// Plain SQL holds the row of one product locked, mostly for longer than a lock is waited for
    HoldRow,
    /// An API is stopped for some seconds (SIGSTOP) and goes on
    StopApi,
}

impl Fault {
    /// As it is typed and printed.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether something dies of SIGKILL.
    pub(super) fn kills(self) -> bool {
        matches!(self, Self::KillApi | Self::KillInCommit | Self::KillWorker | Self::KillMysql)
    }

    /// Whether it can strike where Redis is away: a worker is not ready there.
    pub(super) fn needs_redis(self) -> bool {
        self == Self::KillWorker
    }
}
