//! Ground floor: time, units, tasks and problem lists that every room uses.
//!
//! Nothing here knows HTTP, Redis or policies. [`clock`] is the only reader of
//! clocks, [`tasks`] the only spawner of tasks and threads.

pub mod chain;
pub mod clock;
pub mod files;
pub mod mailbox;
pub mod problems;
pub mod process;
pub mod tasks;
pub mod throttle;
pub mod units;
pub mod yaml;
