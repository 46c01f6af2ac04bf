//! Key budgets: how many keys of a policy may have a state of their own.
//!
//! A flood of invented keys must not fill the memory, and must not push out the
//! counts of those who were there before. So a new key that finds the budget spent
//! shares one key with all others that do, under limits of its own. Keys that have
//! a state keep it.
//!
//! ```text
//!   weir:<policy>:keys      a sorted set: keys with a state, by when to look again
//!   weir:<policy>:0:{~overflow}
//! ```
//!
//! Not here: counting them (`limiter.claim`).

use std::time::Duration;

/// What stands for the key of a request that found the budget spent. No request
/// has this key: a stranger's `~` is escaped.
pub(super) const OVERFLOW: &[u8] = b"~overflow";

/// The budget of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBudget {
    index: Box<str>,
    args: [Box<str>; 2],
    /// The set of limits of those who share.
    pub(super) set: u32,
}

impl KeyBudget {
    pub(super) fn new(policy: &str, keys: u64, window: Duration, set: u32) -> KeyBudget {
        // A sliding counter outlives its window by another.
        let lasts = (2 * window).as_millis();
        KeyBudget {
            index: format!("weir:{policy}:keys").into(),
            args: [keys.to_string().into(), lasts.to_string().into()],
            set,
        }
    }

    /// The store key of the keys that have a state.
    pub fn index(&self) -> &[u8] {
        self.index.as_bytes()
    }

    /// How many there may be, and how long a state lasts, as text.
    pub fn args(&self) -> [&[u8]; 2] {
        self.args.each_ref().map(|it| it.as_bytes())
    }
}
