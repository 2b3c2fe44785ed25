//! The scripts, one file a command under `lua/`; each file's header states its keys, arguments and guarantee.

use redis::Script;
use std::sync::LazyLock;

pub(crate) struct Scripts {
    pub(crate) acquire: Script,
    pub(crate) replace: Script,
    pub(crate) discard: Script,
    pub(crate) push: Script,
    pub(crate) merge: Script,
    pub(crate) claim: Script,
    pub(crate) settle: Script,
    pub(crate) shown: Script,
    pub(crate) shown_store: Script,
    pub(crate) status: Script,
    pub(crate) tail: Script,
    pub(crate) writers: Script,
    pub(crate) forget_writers: Script,
}

pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    acquire: Script::new(include_str!("lua/acquire.lua")),
    replace: Script::new(include_str!("lua/replace.lua")),
    discard: Script::new(include_str!("lua/discard.lua")),
    push: Script::new(include_str!("lua/push.lua")),
    merge: Script::new(include_str!("lua/merge.lua")),
    claim: Script::new(include_str!("lua/claim.lua")),
    settle: Script::new(include_str!("lua/settle.lua")),
    shown: Script::new(include_str!("lua/shown.lua")),
    shown_store: Script::new(include_str!("lua/shown_store.lua")),
    status: Script::new(include_str!("lua/status.lua")),
    tail: Script::new(include_str!("lua/tail.lua")),
    writers: Script::new(include_str!("lua/writers.lua")),
    forget_writers: Script::new(include_str!("lua/forget_writers.lua")),
});

impl Scripts {
    pub(crate) fn all(&self) -> [&Script; 13] {
        [
            &self.acquire,
            &self.replace,
            &self.discard,
            &self.push,
            &self.merge,
            &self.claim,
            &self.settle,
            &self.shown,
            &self.shown_store,
            &self.status,
            &self.tail,
            &self.writers,
            &self.forget_writers,
        ]
    }
}
