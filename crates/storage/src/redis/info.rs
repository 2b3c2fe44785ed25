//! What a Redis says of itself, what it is used for, and what became of reaching it.

use telemetry::metrics::RedisRole;

/// What a server is used for; decides which eviction policies it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    Queue,
    Cache,
    Both,
}

impl Roles {
    pub(crate) fn has_queue(self) -> bool {
        self != Self::Cache
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Cache => "cache",
            Self::Both => "queue and cache",
        }
    }

    pub(super) fn labels(self) -> &'static [RedisRole] {
        match self {
            Self::Queue => &[RedisRole::Queue],
            Self::Cache => &[RedisRole::Cache],
            Self::Both => &[RedisRole::Queue, RedisRole::Cache],
        }
    }
}

/// As what a process comes to a server.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) roles: Roles,
    pub(super) prefix: String,
    /// Id of the database that owns the prefix.
    pub(super) deployment: String,
}

/// What became of the last attempt to connect.
#[derive(Debug, Clone)]
pub enum Link {
    Up(Info),
    Away {
        why: String,
    },
    /// Waiting does not mend it: another deployment owns the prefix, or the queue could be evicted.
    Refused {
        why: String,
    },
}

/// Queue alone: `noeviction`; queue and cache in one: `volatile-lfu` or `-lru`; cache alone: any.
pub(super) fn policy_ok(roles: Roles, policy: &str) -> bool {
    match roles {
        Roles::Queue => policy == "noeviction",
        Roles::Both => matches!(policy, "volatile-lfu" | "volatile-lru"),
        Roles::Cache => true,
    }
}

/// What `INFO` says that matters here.
#[derive(Debug, Clone, Default)]
pub struct Info {
    pub version: (u32, u32),
    pub run_id: String,
    pub is_replica: bool,
    /// `maxmemory-policy`.
    pub policy: String,
    pub aof: bool,
    pub memory_used: u64,
    /// 0: none.
    pub memory_limit: u64,
    pub evicted_keys: u64,
}

impl Info {
    pub(super) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
            let number = || value.parse().unwrap_or(0);
            match name {
                "redis_version" => {
                    let mut parts = value.split('.').map(|part| part.parse().unwrap_or(0));
                    info.version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
                }
                "run_id" => value.clone_into(&mut info.run_id),
                "role" => info.is_replica = value == "slave",
                "maxmemory_policy" => value.clone_into(&mut info.policy),
                "aof_enabled" => info.aof = value == "1",
                "used_memory" => info.memory_used = number(),
                "maxmemory" => info.memory_limit = number(),
                "evicted_keys" => info.evicted_keys = number(),
                _ => {}
            }
        }
        info
    }
}
