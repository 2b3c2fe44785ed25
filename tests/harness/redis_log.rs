//! Redis that comes back with older data, or with none.

use crate::Shop;
use std::path::{Path, PathBuf};

impl Shop {
    fn redis_log(&self) -> PathBuf {
        self.redis.dir().join("appendonlydir")
    }

    /// The file to which Redis appends.
    #[must_use]
    pub fn redis_log_file(&self) -> PathBuf {
        let files = std::fs::read_dir(self.redis_log()).expect("Redis has a log").flatten().map(|entry| entry.path());
        let mut logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "aof"));
        logs.find(|path| path.to_string_lossy().contains(".incr.")).expect("Redis has a log")
    }

    /// Keeps a copy of Redis's log as it is now, in place of the last one; nothing may be on its way.
    #[must_use]
    pub fn keep_redis_log(&self) -> PathBuf {
        let kept = self.dir().join("kept-redis-log");
        copy_files(&self.redis_log(), &kept);
        kept
    }

    /// Kills Redis and starts it with a kept log, or empty.
    pub fn restart_redis_with(&mut self, log: Option<&Path>) {
        self.redis.kill();
        let present = self.redis_log();
        std::fs::remove_dir_all(&present).expect("a stopped Redis holds no file");
        if let Some(log) = log {
            copy_files(log, &present);
        }
        self.redis.restart().expect("Redis can be started again");
    }
}

fn copy_files(from: &Path, to: &Path) {
    // What an earlier copy left.
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("target can be written");
    for file in std::fs::read_dir(from).expect("the log is a folder").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a file can be copied");
    }
}
