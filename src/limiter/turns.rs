//! Turns: requests that wait for quota instead of being refused.
//!
//! Where a policy says `on_deny: { delay: … }`, a request that it would refuse waits
//! in the line of its key, and is asked about again when the limit said that it would
//! be admitted. It is charged when it is admitted, not when it came: so the requests
//! that pass are within the quota, whoever waited how long.
//!
//! # Invariants
//!
//! 1. Only the first of a line is asked about. A request that comes while others wait
//!    for the same key of the same policy goes behind them, whatever room there is.
//! 2. A request is in the line of each policy that has refused it, and asks when it is
//!    the first in all of them. Lines are in the order in which requests came, so two
//!    never wait for each other.
//! 3. Whoever leaves, admitted, refused or because the downstream went away, leaves
//!    all lines at once, and the next are woken. It is a matter of dropping [`Place`].
//! 4. A line is bounded by the policy: in requests, in bytes, and in time.
//!
//! Requests that come within the same microseconds have no order yet: the one whose
//! question reaches the store first is first.
//!
//! Not here: what a request holds while it waits (its door), and how long it may.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time;

use crate::base::clock::{Stopwatch, Timestamp};
use crate::policy::{Algorithm, Delay, RequestFacts};

use super::Limiter;
use super::ask::{Error, Scratch};
use super::live::Live;
use super::metrics::Waited;

/// A lease may come back at any moment; so often it is asked for.
const LEASE_PERIOD: Duration = Duration::from_millis(10);

/// Nobody waits for nothing: a Function of the user's that says so is asked again, but
/// not in a circle.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What a waiting request takes beside its own bytes: its connection and its task.
const OVERHEAD_BYTES: u64 = 1_024;

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Requests in any line: while there are none, a request pays for this alone.
    waiting: AtomicUsize,
    next_ticket: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    /// By policy and key; of each request in a line its ticket, and how to wake it.
    by_key: HashMap<Box<[u8]>, BTreeMap<u64, Arc<Notify>>>,
    /// By policy: how many wait, and their bytes.
    held: HashMap<Box<str>, (u64, u64)>,
}

/// What a line is full of.
struct Full;

/// One request's place in lines. Dropping it leaves them.
struct Place<'t> {
    turns: &'t Turns,
    live: &'t Live,
    ticket: u64,
    bytes: u64,
    /// By policy.
    lines: Vec<(u32, Box<[u8]>)>,
    wake: Arc<Notify>,
    began: Timestamp,
    /// When it is no longer worth waiting.
    until: Timestamp,
    ended: Waited,
}

impl Limiter {
    /// As [`Scratch::ask`]; but where policies delay, waits and asks again, for no
    /// longer than `patience`. Adds how long it waited to `waited`.
    ///
    /// Cancel safe: a request that is dropped leaves its lines.
    pub(super) async fn ask_in_turn(
        &self,
        live: &Live,
        facts: &RequestFacts<'_>,
        scratch: &mut Scratch,
        (patience, waited): (Duration, &mut Duration),
    ) -> Result<bool, Error> {
        let mut place = Place::new(&self.turns, live, facts, self.store.now(), patience);
        if place.join_waiting(scratch).is_err() {
            return self.refuse_out_of_turn(&mut place, scratch).await;
        }
        if place.lines.is_empty() && scratch.ask(live, &self.store).await? {
            return Ok(true);
        }
        let mut is_refused = place.lines.is_empty();
        let mut was_asked = is_refused;
        loop {
            if is_refused {
                let Some(wait) = place.join_refusing(scratch) else {
                    place.refused();
                    return Ok(false);
                };
                if wait > place.until.since(self.store.now()) {
                    place.refused();
                    return Ok(false);
                }
                let watch = Stopwatch::start();
                time::sleep(wait).await;
                *waited += watch.elapsed();
            }
            let watch = Stopwatch::start();
            let left = place.until.since(self.store.now());
            let is_first = time::timeout(left, place.first()).await.is_ok();
            *waited += watch.elapsed();
            if !is_first {
                return self.refuse_out_of_turn(&mut place, scratch).await;
            }
            scratch.may_wait_anew();
            let may_pass = match was_asked {
                true => scratch.ask_again(live, &self.store).await?,
                false => scratch.ask(live, &self.store).await?,
            };
            if may_pass {
                place.admitted(self.store.now());
                return Ok(true);
            }
            (is_refused, was_asked) = (true, true);
        }
    }

    /// Refuses a request whose turn did not come: what its limits say is told, and of
    /// those with a line that they have no room for it.
    async fn refuse_out_of_turn(
        &self,
        place: &mut Place<'_>,
        scratch: &mut Scratch,
    ) -> Result<bool, Error> {
        place.refused();
        scratch.peek(place.live, &self.store).await?;
        scratch.refuse_for_others(place.live);
        Ok(false)
    }
}

impl<'t> Place<'t> {
    fn new(
        turns: &'t Turns,
        live: &'t Live,
        facts: &RequestFacts<'_>,
        began: Timestamp,
        patience: Duration,
    ) -> Place<'t> {
        Place {
            turns,
            live,
            ticket: turns.next_ticket.fetch_add(1, Ordering::Relaxed),
            bytes: facts.size_bytes() + OVERHEAD_BYTES,
            lines: Vec::new(),
            wake: Arc::default(),
            began,
            until: began.plus(patience),
            ended: Waited::Refused,
        }
    }

    /// Goes behind those who wait already, for the policies that delay.
    fn join_waiting(&mut self, scratch: &Scratch) -> Result<(), Full> {
        if self.turns.waiting.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let turns = self.turns;
        let mut lines = turns.lock();
        for (policy, delay, line) in lines_of(self.live, scratch) {
            if lines.by_key.contains_key(&line) {
                self.join(&mut lines, policy, delay, line)?;
            }
        }
        Ok(())
    }

    /// Joins the lines of the policies that have refused, and tells how long to wait;
    /// `None` if there is nothing to wait for.
    fn join_refusing(&mut self, scratch: &Scratch) -> Option<Duration> {
        let mut wait = None;
        let live = self.live;
        for (entry, outcome) in scratch.said() {
            let Some(told) = outcome.filter(|it| !it.admitted && live.is_enforced(entry)) else {
                continue;
            };
            live.delay(entry.policy)?;
            let retry_after = match live.limit(entry).algorithm() {
                Algorithm::Penalty => return None,
                Algorithm::Concurrency => told.retry_after?.max(LEASE_PERIOD),
                _ => told.retry_after?.max(WAIT_MIN),
            };
            wait = wait.max(Some(retry_after));
        }
        let turns = self.turns;
        let mut lines = turns.lock();
        for (policy, delay, line) in lines_of(live, scratch) {
            if has_refused(live, scratch, policy) {
                self.join(&mut lines, policy, delay, line).ok()?;
            }
        }
        wait
    }

    /// Joins one line, unless it is in it or the policy has no place for it.
    fn join(
        &mut self,
        lines: &mut Lines,
        policy: u32,
        delay: &Delay,
        line: Box<[u8]>,
    ) -> Result<(), Full> {
        if self.lines.iter().any(|(it, _)| *it == policy) {
            return Ok(());
        }
        let name = self.live.policies().policies()[policy as usize].name();
        let (count, bytes) = lines.held.get(name).copied().unwrap_or_default();
        if count >= delay.waiting_max || bytes + self.bytes > delay.memory_max_bytes {
            self.live.waited(policy, Waited::Full);
            return Err(Full);
        }
        lines.held.insert(name.into(), (count + 1, bytes + self.bytes));
        let waiting = lines.by_key.entry(line.clone()).or_default();
        waiting.insert(self.ticket, Arc::clone(&self.wake));
        if self.lines.is_empty() {
            self.turns.waiting.fetch_add(1, Ordering::Relaxed);
            // From here on, whoever drops it has not been told anything.
            self.ended = Waited::Gone;
        }
        self.live.begins_to_wait(policy);
        self.until = self.until.min(self.began.plus(delay.wait_max));
        self.lines.push((policy, line));
        Ok(())
    }

    /// Waits until this is the first in all its lines.
    async fn first(&self) {
        loop {
            let woken = self.wake.notified();
            if self.is_first() {
                return;
            }
            woken.await;
        }
    }

    fn is_first(&self) -> bool {
        let lines = self.turns.lock();
        let first = |line: &[u8]| lines.by_key.get(line)?.first_key_value().map(|(it, _)| *it);
        self.lines.iter().all(|(_, line)| first(line) == Some(self.ticket))
    }

    /// It is told so, and has not gone.
    fn refused(&mut self) {
        self.ended = Waited::Refused;
    }

    fn admitted(&mut self, now: Timestamp) {
        self.ended = Waited::Admitted(now.since(self.began));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        self.turns.waiting.fetch_sub(1, Ordering::Relaxed);
        let mut lines = self.turns.lock();
        for (policy, line) in &self.lines {
            // In this order: whoever sees that it waits no more can see what came of it.
            self.live.waited(*policy, self.ended);
            self.live.ends_to_wait(*policy);
            let name = self.live.policies().policies()[*policy as usize].name();
            if let Some((count, bytes)) = lines.held.get_mut(name) {
                *count -= 1;
                *bytes -= self.bytes;
                if *count == 0 {
                    lines.held.remove(name);
                }
            }
            let Some(waiting) = lines.by_key.get_mut(line) else { continue };
            waiting.remove(&self.ticket);
            match waiting.first_key_value() {
                // Whoever is awake already finds out by itself.
                Some((_, next)) => next.notify_one(),
                None => drop(lines.by_key.remove(line)),
            }
        }
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The policies of a request that delay, each with the line of its key.
fn lines_of<'l>(
    live: &'l Live,
    scratch: &Scratch,
) -> impl Iterator<Item = (u32, &'l Delay, Box<[u8]>)> {
    let plan = scratch.plan();
    let firsts = plan.entries().chunk_by(|a, b| a.policy == b.policy).map(|own| &own[0]);
    firsts.filter_map(move |entry| {
        let delay = live.delay(entry.policy)?;
        let name = live.policies().policies()[entry.policy as usize].name();
        // A name holds no brace, so no two lines have one name.
        let line = [name.as_bytes(), b"{", plan.partition(entry)].concat();
        Some((entry.policy, delay, line.into()))
    })
}

/// Whether a limit of `policy` that may refuse has no room.
fn has_refused(live: &Live, scratch: &Scratch, policy: u32) -> bool {
    scratch.said().any(|(entry, outcome)| {
        let refused = outcome.is_some_and(|it| !it.admitted);
        entry.policy == policy && refused && live.is_enforced(entry)
    })
}
