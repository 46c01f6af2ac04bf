//! Ground floor: what every room may use, and what knows neither HTTP nor Redis nor
//! policies.
//!
//! | file | what |
//! |---|---|
//! | `clock` | time: the only reader of clocks |
//! | `tasks` | the only spawner of tasks and threads, and how they end |
//! | `mailbox` | what is left for a connection by others |
//! | `files`, `watch` | files that people write: read whole, and noticed when they change |
//! | `yaml`, `units` | what stands in them |
//! | `problems`, `chain` | what is wrong with them; errors with their causes |
//! | `log`, `throttle` | the process' own log; a few lines a second |
//! | `lines` | lines for a reader who may be slow: a queue and a thread |
//! | `process`, `huge_pages` | what the operating system knows, and is asked for |

pub mod chain;
pub mod clock;
pub mod files;
pub mod huge_pages;
pub mod lines;
pub mod log;
pub mod mailbox;
pub mod problems;
pub mod process;
pub mod tasks;
pub mod throttle;
pub mod units;
pub mod watch;
pub mod yaml;
