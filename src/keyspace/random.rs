//! Chance, for commands that pick at random.
//!
//! A [`Random`] draws the same numbers from the same seed, so whoever seeds the
//! keyspace can repeat a session. Not for secrets.

/// A source of numbers. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Random(fastrand::Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// A number below `end`, each as likely as any other. `end` must not be 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        debug_assert!(end > 0);
        self.0.usize(..end)
    }
}
