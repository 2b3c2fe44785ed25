//! Private redis-server and mariadbd/mysqld processes for `cargo xtask` and for the tests.
//!
//! A server started here has its own directory and a port of its own on 127.0.0.1, runs with the
//! settings of `deploy/`, touches nothing under /etc or /var, and dies with its handle; where
//! `setpriv` exists also with the process that started it, however that ends.
//! Must stay free of dependencies: xtask has to greet within seconds of a clean clone.

mod binaries;
mod error;
mod mysql;
mod mysql_data;
mod ports;
mod process;
mod redis;
mod server;

pub use binaries::{Program, find, find_mysql, find_on, install, install_line, missing, version};
pub use error::{Error, Result};
pub use mysql::{Mysql, MysqlOptions};
pub use ports::free_port;
pub use process::{Process, wait_until};
pub use redis::{AppendFsync, Redis, RedisOptions};
pub use server::Server;
