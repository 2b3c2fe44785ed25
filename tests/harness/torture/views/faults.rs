//! What strikes views: the kinds of faults, and what of each is to be known before it strikes.

use clap::ValueEnum;
use telemetry::pause_point::PausePoint;

/// A kind of fault. Where there are two instances, one of them is struck at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// An API is killed with -9 and started again
    KillApi,
    /// A worker is killed with -9 and started again
    KillWorker,
    /// Redis is killed and started again
    KillRedis,
    /// MySQL is killed and started again
    KillMysql,
    /// An API is killed that is about to push
    KillBeforePush,
    /// An API is killed whose push was answered, and whose clients were not
    KillAfterPush,
    /// A worker is killed that has claimed a batch
    KillAfterClaim,
    /// A worker is killed that has locked the shard's row
    KillAfterShardLock,
    /// A worker is killed that has read the watermarks
    KillAfterWatermarks,
    /// A worker is killed that has nothing but COMMIT left to do
    KillBeforeApplyCommit,
    /// A worker is killed whose batch is in MySQL and still sealed in Redis
    KillAfterApply,
    /// A worker is killed that has settled
    KillAfterSettle,
    /// Redis is killed while a worker is held in mid-batch, which then goes on
    KillRedisInBatch,
    /// MySQL is killed while a worker is held in mid-batch, which then goes on
    KillMysqlInBatch,
    /// A worker is held in mid-batch until another may take the batch up, and goes on
    HoldBatch,
    /// MySQL ends all connections of the workers
    KillConnections,
    /// Redis ends all connections
    KillClients,
    /// A COMMIT of a worker is held before MySQL, then arrives late or is lost
    LoseCommit,
    /// A COMMIT of a worker arrives, and its connection is cut before the reply
    LoseCommitReply,
    /// A push is held before Redis, then arrives late or is lost
    LosePush,
    /// A push arrives, and its connection is cut before the reply
    LosePushReply,
    /// A claim or a settle is held before Redis, then arrives late or is lost
    LoseScript,
    /// A claim or a settle arrives, and its connection is cut before the reply
    LoseScriptReply,
    /// Text that is no view is pushed by hand
    Poison,
    /// Redis loses up to 64 KiB of its log in a power cut; only in rounds with `everysec`
    CutTail,
    /// A worker is stopped in mid-transaction until MySQL has ended its session, and goes on
    StopInBatch,
}

/// Where a worker holds the lock of the shard's row.
pub(super) const IN_TRANSACTION: [PausePoint; 3] = [PausePoint::AfterShardLock, PausePoint::AfterWatermarks, PausePoint::BeforeApplyCommit];

/// Where a worker has a batch that is not settled.
pub(super) const IN_BATCH: [PausePoint; 5] = [
    PausePoint::AfterClaim,
    PausePoint::AfterShardLock,
    PausePoint::AfterWatermarks,
    PausePoint::BeforeApplyCommit,
    PausePoint::AfterApply,
];

impl Fault {
    /// As it is typed and printed.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether something dies of SIGKILL.
    #[must_use]
    pub fn kills(self) -> bool {
        self == Self::CutTail || self.name().starts_with("kill-") && !matches!(self, Self::KillConnections | Self::KillClients)
    }

    /// Whether an API dies, and what only it knew with it.
    pub(super) fn kills_api(self) -> bool {
        matches!(self, Self::KillApi | Self::KillBeforePush | Self::KillAfterPush)
    }

    /// Where an API or a worker is killed, of those that are killed at a point.
    pub(super) fn point(self) -> Option<PausePoint> {
        Some(match self {
            Self::KillBeforePush => PausePoint::BeforePush,
            Self::KillAfterPush => PausePoint::AfterPush,
            Self::KillAfterClaim => PausePoint::AfterClaim,
            Self::KillAfterShardLock => PausePoint::AfterShardLock,
            Self::KillAfterWatermarks => PausePoint::AfterWatermarks,
            Self::KillBeforeApplyCommit => PausePoint::BeforeApplyCommit,
            Self::KillAfterApply => PausePoint::AfterApply,
            Self::KillAfterSettle => PausePoint::AfterSettle,
            _ => return None,
        })
    }

    /// Whether it strikes in rounds where Redis has `everysec` and loses what it had not synced. Redis itself is killed there only
    /// with its log written out, as `cut-tail` does: under `everysec` it puts off writing for up to 2 s while the disk is busy,
    /// and nobody could say what was lost.
    pub(super) fn may_meet_loss(self) -> bool {
        !matches!(self, Self::KillRedis | Self::KillRedisInBatch | Self::StopInBatch)
    }
}
