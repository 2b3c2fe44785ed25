//! The closed sets of label values, one enum each, so that no label can carry an id or a path.
//!
//! A value is declared here with its text; the series of every value exists from the start.

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    const ALL: &'static [Self];

    /// The value as it is exported.
    fn as_str(self) -> &'static str;

    /// Place in [`Self::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$meaning])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

labels! {
    /// What a Redis is used for. Where one serves both, both roles carry its values.
    RedisRole {
        Queue = "queue",
        Cache = "cache",
    }

    /// One kind of call to Redis, mostly one script each.
    RedisOp {
        Product = "product",
        Acquire = "acquire",
        Fill = "fill",
        Mark = "mark",
        Publish = "publish",
        Shown = "shown",
        ShownStore = "shown_store",
        Push = "push",
        Ticket = "ticket",
        Merge = "merge",
        Claim = "claim",
        Settle = "settle",
        Sweep = "sweep",
        Check = "check",
        Tail = "tail",
        Status = "status",
        Connect = "connect",
    }

    /// One kind of statement or transaction in MySQL.
    MysqlOp {
        Products = "products",
        Fill = "fill",
        Price = "price",
        Prices = "prices",
        History = "history",
        Create = "create",
        Import = "import",
        Known = "known",
        Availability = "availability",
        Shown = "shown",
        Hours = "hours",
        Stock = "stock",
        Apply = "apply",
        Pause = "pause",
        Letters = "letters",
        Retention = "retention",
        Check = "check",
        Tail = "tail",
        Status = "status",
        Migrate = "migrate",
        Connect = "connect",
    }

    /// Why a call to a store failed, by what its caller can do.
    ErrorKind {
        Unavailable = "unavailable",
        Full = "full",
        Conflict = "conflict",
        Corrupt = "corrupt",
        Unknown = "unknown",
        Bug = "bug",
    }

    /// What the connections of the pool do.
    PoolState {
        /// Open and free.
        Idle = "idle",
        /// Lent to a caller.
        InUse = "in_use",
        /// Not connections but callers that wait for one.
        Waiting = "waiting",
        /// Most that may be open.
        Limit = "limit",
    }

    /// How a product read was served.
    CacheResult {
        Hit = "hit",
        Miss = "miss",
        /// The cache knew that there is no such product.
        NegativeHit = "negative_hit",
        /// Answered from MySQL without asking or filling the cache.
        Bypass = "bypass",
    }

    /// How a price write ended.
    PriceResult {
        Written = "written",
        /// Equal to the current price: same version, no history row.
        Unchanged = "unchanged",
        Refused = "refused",
        Unavailable = "unavailable",
        /// Answered 503 without knowing whether it was applied.
        Unknown = "unknown",
    }

    /// Parts of a price write.
    PriceStage {
        Mysql = "mysql",
        Redis = "redis",
        Total = "total",
    }

    /// In what a cached product differed from its row; but for the two last the names of the record's fields.
    CheckField {
        Sku = "sku",
        Name = "name",
        Description = "description",
        Active = "active",
        Price = "price",
        Version = "version",
        UpdatedAt = "updated_at",
        /// The one is there, the other is not.
        Presence = "presence",
        /// Other bytes with the same fields, or bytes that are no record.
        Form = "form",
    }

    /// What became of a write that came with a key. One that was refused, or failed, leaves no trace and is not counted.
    IdempotencyResult {
        Executed = "executed",
        /// Done before: answered as it was then.
        Replayed = "replayed",
        /// The key belongs to another request.
        Mismatch = "mismatch",
        /// A request with the same key was under way for longer than is waited.
        InProgress = "in_progress",
    }

    /// Why stock changes: the kinds of movements.
    StockKind {
        Count = "count",
        Adjustment = "adjustment",
        Reserve = "reserve",
        Commit = "commit",
        Release = "release",
        Expire = "expire",
    }

    /// How a change of stock ended. One that was done before under its key is not counted again.
    StockResult {
        Applied = "applied",
        /// A count that found what the books say.
        Unchanged = "unchanged",
        Refused = "refused",
        Unavailable = "unavailable",
        /// Answered 503 without knowing whether it was applied.
        Unknown = "unknown",
    }

    /// What became of a reservation, or of a request for one.
    ReservationResult {
        Reserved = "reserved",
        /// There was not enough of a product.
        Insufficient = "insufficient",
        Committed = "committed",
        Released = "released",
        Expired = "expired",
        /// For another reason, such as a reservation that has ended.
        Refused = "refused",
    }

    /// Tables of which old rows are deleted.
    KeptTable {
        Idempotency = "idempotency",
        ViewHours = "view_hours",
        DeadLetters = "dead_letters",
        /// The totals of these stay, in `view_shards`.
        ViewMarks = "view_marks",
        /// Their items with them; their movements stay.
        Reservations = "reservations",
    }

    /// What must hold of a product's stock.
    Invariant {
        /// On hand is what its movements add up to.
        OnHand = "on_hand",
        /// Reserved is what its movements add up to.
        Reserved = "reserved",
        /// Reserved is what its active reservations add up to.
        Items = "items",
        /// Not less than nothing is reserved, and not more than is on hand.
        Oversold = "oversold",
    }

    /// How the API answered a view.
    ViewOutcome {
        Accepted = "accepted",
        /// Accepted before under its id, and not counted again.
        Repeated = "repeated",
        NotFound = "not_found",
        Invalid = "invalid",
        OverCapacity = "over_capacity",
        Unavailable = "unavailable",
        /// The push was sent and never confirmed: stored once or not at all.
        Unknown = "unknown",
    }

    /// What became of a batch.
    BatchResult {
        Applied = "applied",
        /// Every record stood at or below its watermark.
        AlreadyApplied = "already_applied",
        Retried = "retried",
        /// Of those applied: its sums were halved, because MySQL refused some of them for their data.
        Split = "split",
        /// Of those applied: something of it was set aside.
        Dead = "dead",
    }

    /// Parts of the drain of one batch.
    DrainStage {
        Read = "read",
        Mysql = "mysql",
        Settle = "settle",
    }

    /// What the binlog said of the table of products.
    TailEvent {
        Insert = "insert",
        Update = "update",
        Delete = "delete",
        /// A statement that names the table.
        Statement = "statement",
        Unreadable = "unreadable",
    }

    /// Why all product entries were dropped.
    Emptied {
        /// Nobody had followed the binlog before.
        NoPosition = "no_position",
        /// The binlog no longer has the place where the last worker was.
        PositionLost = "position_lost",
        /// Another server, or the same one started again.
        ServerChanged = "server_changed",
        Statement = "statement",
        Unreadable = "unreadable",
    }
}
