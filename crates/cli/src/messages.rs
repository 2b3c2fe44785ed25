//! Messages for people, on stderr.

/// As the macro of this name in `std`, but a stderr that nobody reads any more (`2>&1 | head`) is no reason to panic.
macro_rules! eprintln {
    ($($message:tt)*) => {{
        use std::io::Write as _;
        // There is nobody left to tell.
        let _ = writeln!(std::io::stderr(), $($message)*);
    }};
}
