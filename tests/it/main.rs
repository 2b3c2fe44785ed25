//! Everything that is tested against real servers, as one binary.

mod smoke;
