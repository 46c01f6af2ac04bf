//! Eviction: which keys go when memory is short.
//!
//! | who asks for memory | may fill | when nothing may be evicted |
//! |---|---|---|
//! | a client's command | 15/16 of `maxmemory` | refused |
//! | a limiter's call on a new counter | 31/32 | refused |
//! | a limiter's call on counters that are there | all | refused |
//!
//! So a flood of keys, from clients or through policies, leaves room for the
//! counters that live. Those are guarded: what a limiter's call has written is
//! never evicted, it goes when it expires. A guard lasts while the key does, in
//! this process; after a restart the next call on the key renews it.
//!
//! Keys are chosen as in Redis: the best of a few at random, and of the best left
//! over from earlier samples. For `volatile-ttl` the wheel of deadlines offers
//! the nearest.

use super::arg::Arg;
use super::notices::EventClass;
use super::slots::{Candidates, Counting, SlotId, Slots, Usage};
use super::space::{Execution, Keyspace};
use crate::base::clock::Timestamp;

/// Candidates that are remembered from one sample to the next.
const POOL_LEN: usize = 16;

/// Keys that are looked at to choose one, at most: more only cost time, the choice
/// hardly becomes better.
pub const SAMPLES_MAX: u32 = 64;

/// Which keys go when memory is short, in Redis' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// None: what needs memory is refused.
    #[default]
    NoEviction,
    /// Those not used for longest.
    AllKeysLru,
    /// Those used least often.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Of those with a deadline, those not used for longest.
    VolatileLru,
    /// Of those with a deadline, those used least often.
    VolatileLfu,
    /// Of those with a deadline, any.
    VolatileRandom,
    /// Those that expire soonest.
    VolatileTtl,
}

/// How much memory the keyspace may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes that the keyspace may take. 0 means any.
    pub maxmemory: u64,
    /// Which keys go when that is not enough.
    pub policy: EvictionPolicy,
    /// Keys that are looked at to choose one; no more than [`SAMPLES_MAX`] are, whatever
    /// stands here.
    pub samples: u32,
    /// The higher, the more uses it takes to raise a key's counter of uses.
    pub lfu_log_factor: u32,
    /// Minutes until the counter of uses falls by one; 0 never.
    pub lfu_decay_minutes: u32,
}

/// Who asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A command of a client.
    Client,
    /// A call of the limiter that names a key that is not there.
    NewCounter,
    /// A call of the limiter on keys that are there.
    Counter,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// No more than may be is used.
    Enough,
    /// More than may be is used, but there are keys to evict: ask again.
    Evicting,
    /// More than may be is used, and no key may be evicted.
    None,
}

/// Candidates left over from earlier samples, the best one last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    entries: Vec<Candidate>,
    found: Vec<SlotId>,
}

/// A key as it was when it was sampled.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: SlotId,
    usage: Usage,
    deadline: Option<u64>,
    /// The higher, the sooner it goes.
    score: u64,
}

impl EvictionPolicy {
    /// Every policy.
    pub const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::NoEviction,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            EvictionPolicy::NoEviction => "noeviction",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
            EvictionPolicy::AllKeysRandom => "allkeys-random",
            EvictionPolicy::VolatileLru => "volatile-lru",
            EvictionPolicy::VolatileLfu => "volatile-lfu",
            EvictionPolicy::VolatileRandom => "volatile-random",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
        }
    }

    /// The policy of this name, in any case.
    pub fn named(name: &str) -> Option<EvictionPolicy> {
        EvictionPolicy::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(name))
    }

    /// True if it goes by how often keys are used.
    pub fn is_lfu(self) -> bool {
        matches!(self, EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu)
    }

    fn candidates(self) -> Option<Candidates> {
        match self {
            EvictionPolicy::NoEviction => None,
            EvictionPolicy::AllKeysLru
            | EvictionPolicy::AllKeysLfu
            | EvictionPolicy::AllKeysRandom => Some(Candidates::All),
            EvictionPolicy::VolatileLru
            | EvictionPolicy::VolatileLfu
            | EvictionPolicy::VolatileRandom
            | EvictionPolicy::VolatileTtl => Some(Candidates::Volatile),
        }
    }
}

impl MemoryLimits {
    /// No limit, and Redis' defaults for the rest.
    pub const NONE: MemoryLimits = MemoryLimits {
        maxmemory: 0,
        policy: EvictionPolicy::NoEviction,
        samples: 5,
        lfu_log_factor: 10,
        lfu_decay_minutes: 1,
    };

    /// How many bytes may be used when this one asks; `None` means any number.
    pub fn ceiling(&self, asker: Asker) -> Option<usize> {
        let reserve = match asker {
            Asker::Client => self.maxmemory / 16,
            Asker::NewCounter => self.maxmemory / 32,
            Asker::Counter => 0,
        };
        let ceiling = usize::try_from(self.maxmemory - reserve).unwrap_or(usize::MAX);
        (self.maxmemory > 0).then_some(ceiling)
    }

    /// True if no two keys may share a value, since eviction goes by its use.
    pub(super) fn counts_uses_of_each(&self) -> bool {
        let is_lru =
            matches!(self.policy, EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru);
        self.maxmemory > 0 && (is_lru || self.policy.is_lfu())
    }

    fn counting(&self) -> Counting {
        if self.policy.is_lfu() {
            Counting::Frequency {
                log_factor: self.lfu_log_factor,
                decay_minutes: self.lfu_decay_minutes,
            }
        } else {
            Counting::Recency
        }
    }

    /// How soon a key is to go.
    fn score(&self, usage: Usage, deadline: Option<u64>, now: Timestamp) -> u64 {
        match self.policy {
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
                u64::from(usage.idle_ticks(now))
            }
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                255 - u64::from(usage.frequency(now, self.lfu_decay_minutes))
            }
            EvictionPolicy::VolatileTtl => u64::MAX - deadline.unwrap_or(u64::MAX),
            EvictionPolicy::AllKeysRandom
            | EvictionPolicy::VolatileRandom
            | EvictionPolicy::NoEviction => 0,
        }
    }
}

impl Pool {
    /// The slot that is to go first, if any was found.
    fn choose(
        &mut self,
        slots: &mut Slots,
        limits: &MemoryLimits,
        candidates: Candidates,
        now: Timestamp,
    ) -> Option<SlotId> {
        self.found.clear();
        let sample_len = limits.samples.clamp(1, SAMPLES_MAX) as usize;
        slots.sample(candidates, sample_len, &mut self.found);
        if candidates == Candidates::Volatile
            && (limits.policy == EvictionPolicy::VolatileTtl || self.found.is_empty())
        {
            slots.sample_soonest(sample_len, &mut self.found);
        }
        if matches!(limits.policy, EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom) {
            return self.found.first().copied();
        }
        for id in self.found.drain(..) {
            let (usage, deadline) = (slots.usage(id), slots.deadline(id));
            let score = limits.score(usage, deadline, now);
            if self.entries.iter().all(|it| it.id != id) {
                self.entries.push(Candidate { id, usage, deadline, score });
            }
        }
        self.entries.sort_unstable_by_key(|it| it.score);
        let excess = self.entries.len().saturating_sub(POOL_LEN);
        self.entries.drain(..excess);
        while let Some(candidate) = self.entries.pop() {
            // A key that was used or set since is another candidate now.
            if slots.is_evictable(candidate.id, candidates)
                && slots.usage(candidate.id) == candidate.usage
                && slots.deadline(candidate.id) == candidate.deadline
            {
                return Some(candidate.id);
            }
        }
        None
    }
}

/// Room.
impl Keyspace {
    /// The limits in force.
    pub fn memory_limits(&self) -> &MemoryLimits {
        &self.limits
    }

    /// Puts other limits in force. Usage that was counted another way is read
    /// the new way, until keys are used again.
    pub fn set_memory_limits(&mut self, limits: MemoryLimits) {
        self.limits = limits;
        self.slots.count_by(limits.counting());
        self.pool.entries.clear();
    }

    /// True if more is used than may be when this one asks. Constant time.
    pub fn lacks_room(&self, asker: Asker) -> bool {
        self.limits.ceiling(asker).is_some_and(|ceiling| self.used_bytes() > ceiling)
    }

    /// Makes room for whoever asks, by evicting up to `key_count` keys, with a
    /// `DEL` each as an effect.
    pub fn make_room(&mut self, asker: Asker, key_count: usize, run: &mut Execution<'_>) -> Room {
        match self.limits.ceiling(asker) {
            Some(ceiling) => self.watched(run, |space, run| space.evict(ceiling, key_count, run)),
            None => Room::Enough,
        }
    }

    fn evict(&mut self, ceiling: usize, key_count: usize, run: &mut Execution<'_>) -> Room {
        let limits = self.limits;
        for _ in 0..key_count {
            if self.used_bytes() <= ceiling {
                return Room::Enough;
            }
            // What a flush left behind goes before anything that lives.
            if self.slots.bury_slots().is_some() {
                continue;
            }
            let Some(candidates) = limits.policy.candidates() else { return Room::None };
            if self.slots.evictable_count(candidates) == 0 {
                return Room::None;
            }
            if let Some(id) = self.pool.choose(&mut self.slots, &limits, candidates, run.now) {
                let key = self.slots.key(id);
                run.record(&[Arg::Bytes(b"DEL"), Arg::Bytes(key)]);
                run.notify(EventClass::EVICTED, "evicted", key);
                self.slots.free(id);
                self.evicted_count += 1;
            }
        }
        if self.used_bytes() <= ceiling { Room::Enough } else { Room::Evicting }
    }
}
