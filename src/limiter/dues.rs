//! Dues: what an admitted request gives back, or still has to pay, when its
//! response has ended.
//!
//! - A lease (`concurrency`) is released, whatever ends the request: an answer, a
//!   downstream that left, a task that was dropped.
//! - An estimate (`settle`) is set right: what the response says was used is
//!   charged, what was too much is given back. Without a response the estimate
//!   stays.
//!
//! A request that is dropped before it is decided, because the downstream left while it
//! waited for its turn or for a sync, owes every lease that it may have been given
//! ([`Undecided`]).
//!
//! So dues pay themselves when they are dropped. Paying means asking the store,
//! which a destructor cannot wait for; it sends them to the one task that does,
//! [`Payments::pay`]. There are never more of them under way than requests.
//!
//! If the process dies, nobody pays. A lease then ends by its deadline. An estimate
//! stands in a list of reservations, which outlives the process: when its time is
//! over, that same task, of whichever process, gives it back. The call that charges
//! writes the reservation too ([`Estimates`]), so that no crash falls between them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::policy::{Algorithm, Entry, Headers, Plan};
use crate::resp::{Reply, View};
use crate::store::{self, Call, Store};

use super::Limiter;
use super::ask::Scratch;
use super::live::Live;
use super::meter::Meter;

const RELEASE: &str = "limiter.release";
const SETTLE: &str = "limiter.settle";
const ADJUST: &str = "limiter.adjust";
const ABANDONED: &str = "limiter.abandoned";

/// All reservations, by the moments at which they are abandoned.
pub(super) const RESERVATIONS: &[u8] = b"weir:reservations";

/// How often abandoned reservations are looked for, and how many are given back at
/// a time.
const ABANDONED_PERIOD: Duration = Duration::from_secs(1);
const ABANDONED_COUNT: &[u8] = b"100";

/// What one request owes. Dropping it pays it.
#[derive(Debug)]
pub struct Dues {
    owed: Option<Owed>,
    /// One for each policy that settles.
    meters: Vec<(u32, Meter)>,
    answered: bool,
    payments: mpsc::UnboundedSender<Owed>,
}

/// A request about which the store is asked. Dropped before it is decided, it gives back
/// every lease that it may have been given: to give back one that was not costs nothing.
#[derive(Debug)]
pub(super) struct Undecided<'r> {
    pub(super) scratch: &'r mut Scratch,
    live: &'r Live,
    payments: &'r mpsc::UnboundedSender<Owed>,
    is_decided: bool,
}

/// Everything that one request owes.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// The name of its leases, and the store keys of the limits that leased.
    lease: Box<str>,
    leased: Vec<Box<[u8]>>,
    reservations: Vec<Reservation>,
}

/// Estimates that were charged together.
#[derive(Debug)]
struct Reservation {
    /// As they stand in the list of reservations.
    text: String,
    debts: Vec<Debt>,
}

/// An estimate that one limit was charged.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Debt {
    key: String,
    algorithm: String,
    quota: String,
    window_ms: String,
    option: String,
    estimate: u64,
    /// Of the process that asked; no other looks at it.
    policy: u32,
    /// Where it was not charged with the others: a candidate's, of a request that waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    charged_at_us: Option<u64>,
    /// What the response said was used.
    #[serde(skip)]
    used: Option<u64>,
}

/// What `limiter.decide_reserving` is told besides what `limiter.decide` is.
pub(super) struct Estimates {
    ends_after_ms: String,
    /// One for each limit, empty for one that is not settled; and those that were charged
    /// before.
    debts: Vec<String>,
}

impl Estimates {
    /// Those of the limits of a call, and of candidates that were charged when the request
    /// was refused and let wait; `None` when nothing is settled.
    pub(super) fn of<'e>(
        live: &Live,
        plan: &Plan,
        limits: impl Iterator<Item = &'e Entry> + Clone,
        earlier: impl Iterator<Item = (&'e Entry, u64)>,
    ) -> Option<Estimates> {
        if !live.has_dues() {
            return None;
        }
        let settled = limits.clone().filter_map(|entry| live.settle(entry.policy));
        let longest = settled.map(|settle| settle.reserve).max()?;
        let debt = |entry: &Entry, charged_at_us: Option<u64>| {
            let limit = live.limit(entry);
            let is_charged =
                !matches!(limit.algorithm(), Algorithm::Concurrency | Algorithm::Penalty);
            if live.settle(entry.policy).is_none() || !is_charged {
                return String::new();
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let [algorithm, quota, window_ms] = limit.args().map(text);
            let debt = Debt {
                key: text(plan.key(entry)),
                algorithm,
                quota,
                window_ms,
                option: text(limit.option()),
                estimate: entry.cost,
                policy: entry.policy,
                charged_at_us,
                used: None,
            };
            // Cannot fail: texts and numbers.
            serde_json::to_string(&debt).unwrap_or_default()
        };
        let ends_after_ms = longest.as_millis().to_string();
        let earlier = earlier.map(|(entry, at)| debt(entry, Some(at)));
        let earlier = earlier.filter(|text| !text.is_empty());
        let debts = limits.map(|entry| debt(entry, None)).chain(earlier).collect();
        Some(Estimates { ends_after_ms, debts })
    }

    /// The keys and arguments of `limiter.decide`, made into those of
    /// `limiter.decide_reserving`; `name` is the request's.
    pub(super) fn reserving<'e>(
        &'e self,
        (keys, args): (&[&'e [u8]], &[&'e [u8]]),
        name: &'e str,
    ) -> (Vec<&'e [u8]>, Vec<&'e [u8]>) {
        let own = [self.ends_after_ms.as_bytes(), name.as_bytes()];
        let debts = self.debts.iter().map(String::as_bytes);
        ([keys, &[RESERVATIONS]].concat(), args.iter().copied().chain(own).chain(debts).collect())
    }
}

impl Reservation {
    /// Reads what the Function wrote: a line with the name, one with the moment of the
    /// charge, and one for each debt. One of another version has no debts; it can be
    /// taken off the list all the same.
    fn of(text: String) -> Reservation {
        let mut lines = text.lines().skip(1);
        let charged_at_us = lines.next().and_then(|line| line.parse().ok());
        let debt = |line| {
            let debt: Debt = serde_json::from_str(line).ok()?;
            Some(Debt { charged_at_us: debt.charged_at_us.or(charged_at_us), ..debt })
        };
        let debts = lines.filter_map(debt).collect();
        Reservation { text, debts }
    }
}

impl<'r> Undecided<'r> {
    /// A request of which `scratch` holds the plan.
    pub(super) fn new(
        scratch: &'r mut Scratch,
        live: &'r Live,
        payments: &'r mpsc::UnboundedSender<Owed>,
    ) -> Undecided<'r> {
        Undecided { scratch, live, payments, is_decided: false }
    }

    /// What it owes, now that it is decided; `None` when nothing. One that is refused
    /// has given back what it owed.
    pub(super) fn decided(mut self, may_pass: bool) -> Option<Dues> {
        self.is_decided = true;
        if !self.live.has_dues() {
            return None;
        }
        Dues::of(self.scratch, self.live, may_pass, self.payments).filter(|_| may_pass)
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if self.is_decided || !self.live.has_dues() || !self.scratch.may_owe() {
            return;
        }
        let plan = self.scratch.plan();
        let leases = |it: &&Entry| *self.live.limit(it).algorithm() == Algorithm::Concurrency;
        let leased: Vec<Box<[u8]>> =
            plan.entries().iter().filter(leases).map(|it| plan.key(it).into()).collect();
        if !leased.is_empty() {
            let lease = self.scratch.lease().into();
            let _ = self.payments.send(Owed { lease, leased, reservations: Vec::new() });
        }
    }
}

impl Dues {
    /// What a request owes; `None` when nothing. One that is refused owes nothing but
    /// the leases of candidates that would have admitted it, and those at once.
    fn of(
        scratch: &Scratch,
        live: &Live,
        may_pass: bool,
        payments: &mpsc::UnboundedSender<Owed>,
    ) -> Option<Dues> {
        let mut owed = Owed::default();
        let mut meters: Vec<(u32, Meter)> = Vec::new();
        for (index, (entry, outcome)) in scratch.said().enumerate() {
            if *live.limit(entry).algorithm() != Algorithm::Concurrency {
                continue;
            }
            let is_leased = match may_pass {
                true => outcome.is_some_and(|it| it.admitted),
                false => scratch.was_charged(index),
            };
            if is_leased {
                owed.leased.push(scratch.plan().key(entry).into());
            }
        }
        owed.reservations = scratch.reservations().iter().cloned().map(Reservation::of).collect();
        for debt in owed.reservations.iter().flat_map(|it| &it.debts) {
            if let Some(settle) = live.settle(debt.policy)
                && meters.iter().all(|(policy, _)| *policy != debt.policy)
            {
                meters.push((debt.policy, Meter::new(settle)));
            }
        }
        if owed.leased.is_empty() && owed.reservations.is_empty() {
            return None;
        }
        owed.lease = scratch.lease().into();
        Some(Dues { owed: Some(owed), meters, answered: false, payments: payments.clone() })
    }

    /// True when the response is to be looked at.
    pub fn is_metered(&self) -> bool {
        !self.meters.is_empty()
    }

    /// The head of the response has come.
    pub fn head(&mut self, status: u16, headers: &dyn Headers) {
        self.answered = true;
        self.meters.iter_mut().for_each(|(_, meter)| meter.head(status, headers));
    }

    /// A piece of its body has come.
    pub fn data(&mut self, data: &[u8]) {
        self.meters.iter_mut().for_each(|(_, meter)| meter.data(data));
    }

    /// Its trailers have come.
    pub fn trailers(&mut self, trailers: &dyn Headers) {
        self.meters.iter_mut().for_each(|(_, meter)| meter.trailers(trailers));
    }
}

impl Drop for Dues {
    fn drop(&mut self) {
        let Some(mut owed) = self.owed.take() else { return };
        let debts = owed.reservations.iter_mut().flat_map(|it| &mut it.debts);
        for debt in debts.filter(|_| self.answered) {
            let meter = self.meters.iter_mut().find(|(policy, _)| *policy == debt.policy);
            debt.used = meter.map(|(_, meter)| meter.units(debt.estimate));
        }
        // Nobody receives at the very end of the process; deadlines do then.
        let _ = self.payments.send(owed);
    }
}

/// The other end: pays what requests owe.
#[derive(Debug)]
pub struct Payments(pub(super) mpsc::UnboundedReceiver<Owed>);

/// Both ends.
pub(super) fn channel() -> (mpsc::UnboundedSender<Owed>, Payments) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Payments(receive))
}

impl Payments {
    /// Pays until shutdown, and then what is there; gives back what was abandoned.
    /// Cancel safe: the `select!` waits and does no work.
    pub async fn pay(&mut self, limiter: &Limiter, shutdown: CancellationToken) {
        let mut ticks = time::interval(ABANDONED_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                owed = self.0.recv() => match owed {
                    Some(owed) => limiter.tell_failure(owed.pay(limiter.store()).await),
                    None => return,
                },
                _ = ticks.tick() => {
                    limiter.tell_failure(give_back_abandoned(limiter.store()).await);
                }
            }
        }
        self.pay_waiting(limiter).await;
    }

    /// Pays what is there and does not wait for more.
    pub async fn pay_waiting(&mut self, limiter: &Limiter) {
        while let Ok(owed) = self.0.try_recv() {
            limiter.tell_failure(owed.pay(limiter.store()).await);
        }
    }
}

/// Gives back the estimates of requests that nobody settled in time.
pub(super) async fn give_back_abandoned(store: &Store) -> Result<(), store::Error> {
    let mut replies = vec![Reply::default()];
    let call = Call { function: ABANDONED, keys: &[RESERVATIONS], args: &[ABANDONED_COUNT] };
    store.call(&[call], &mut replies, |_| true).await?;
    let View::Array(items) = replies[0].view() else { return Ok(()) };
    let texts: Vec<String> = items
        .filter_map(|item| match item {
            View::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
        .collect();
    for text in texts {
        let mut reservation = Reservation::of(text);
        reservation.debts.iter_mut().for_each(|debt| debt.used = Some(0));
        reservation.settle(store).await?;
    }
    Ok(())
}

impl Owed {
    async fn pay(&self, store: &Store) -> Result<(), store::Error> {
        if !self.leased.is_empty() {
            let keys: SmallVec<[&[u8]; 4]> = self.leased.iter().map(AsRef::as_ref).collect();
            let args: SmallVec<[&[u8]; 4]> = keys.iter().map(|_| self.lease.as_bytes()).collect();
            let call = Call { function: RELEASE, keys: &keys, args: &args };
            store.call(&[call], &mut vec![Reply::default()], |_| true).await?;
        }
        for reservation in &self.reservations {
            reservation.settle(store).await?;
        }
        Ok(())
    }
}

impl Reservation {
    async fn settle(&self, store: &Store) -> Result<(), store::Error> {
        let mut replies = vec![Reply::default()];
        let adjustments = self.adjustments(|debt| {
            let used = debt.used.unwrap_or(debt.estimate);
            i128::from(used) - i128::from(debt.estimate)
        });
        let mut keys: SmallVec<[&[u8]; 4]> = SmallVec::from_slice(&[RESERVATIONS]);
        keys.extend(self.debts.iter().map(|debt| debt.key.as_bytes()));
        let mut args: Vec<&[u8]> = vec![self.text.as_bytes()];
        args.extend(adjustments.iter().map(String::as_bytes));
        let call = Call { function: SETTLE, keys: &keys, args: &args };
        store.call(&[call], &mut replies, |_| true).await?;
        let was_abandoned = matches!(replies[0].view(), View::Integer(0));
        let is_due = self.debts.iter().any(|debt| debt.used.is_some_and(|used| used > 0));
        if was_abandoned && is_due {
            // The estimate was given back meanwhile: what was used is charged whole.
            let adjustments = self.adjustments(|debt| i128::from(debt.used.unwrap_or(0)));
            let args: Vec<&[u8]> = adjustments.iter().map(String::as_bytes).collect();
            let call = Call { function: ADJUST, keys: &keys[1..], args: &args };
            store.call(&[call], &mut replies, |_| true).await?;
        }
        Ok(())
    }

    /// Six arguments for each debt, as `adjust` takes them.
    fn adjustments(&self, units: impl Fn(&Debt) -> i128) -> Vec<String> {
        let of_one = |debt: &Debt| {
            let (units, at) =
                (units(debt).to_string(), debt.charged_at_us.unwrap_or_default().to_string());
            let Debt { algorithm, quota, window_ms, option, .. } = debt.clone();
            [algorithm, quota, window_ms, units, option, at]
        };
        self.debts.iter().flat_map(of_one).collect()
    }
}
