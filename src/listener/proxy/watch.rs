//! The watch over one downstream connection: how long each phase may take.
//!
//! ```text
//!   accepted ──first byte──▶ head ──whole head──▶ exchange ──answered──▶ idle
//!                              ▲                                          │
//!                              └────────────── first byte ────────────────┘
//! ```
//!
//! hyper's own timer is not used: it boxes and arms one timer a request, and it
//! cannot tell a request that drips in (5 s) from a connection that is merely
//! kept alive (60 s). Here the request path only notes in which phase it is; one
//! lazy timer a connection looks at the note now and then. A phase therefore
//! ends up to [`CHECK_PERIOD`] late, and costs nothing. A head that was begun
//! before the last exchange ended (pipelining) has the time of an idle connection.
//!
//! # Not here
//!
//! Bodies that do not move (`body`), upstreams that do not answer (`forward`).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::base::clock::Stopwatch;

use super::config::Timeouts;
use super::observed::Observer;

/// How often the timer of a connection looks. At most this late is a timeout.
pub const CHECK_PERIOD: Duration = Duration::from_millis(2_500);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request's head is awaited and overdue if it does not come.
    Head,
    /// At least one request is being answered.
    Exchange,
    /// Kept alive, no request.
    Idle,
    /// The peer does not read what we write.
    Stalled,
}

/// The watch over one connection. Shared, on one thread, by its socket, its
/// requests and its timer.
#[derive(Debug)]
pub struct Watch {
    clock: Stopwatch,
    timeouts: Timeouts,
    /// HTTP/2: bytes of an idle connection may be pings, not a request.
    multiplexed: bool,
    phase: Cell<Phase>,
    since: Cell<Duration>,
    exchange_count: Cell<u32>,
    stalled_since: Cell<Option<Duration>>,
}

impl Watch {
    /// Begins with the phase [`Phase::Head`].
    pub fn new(timeouts: Timeouts, multiplexed: bool) -> Rc<Watch> {
        Rc::new(Watch {
            clock: Stopwatch::start(),
            timeouts,
            multiplexed,
            phase: Cell::new(Phase::Head),
            since: Cell::new(Duration::ZERO),
            exchange_count: Cell::new(0),
            stalled_since: Cell::new(None),
        })
    }

    /// A request's head is complete; it is answered until the guard is dropped.
    pub fn exchange(self: &Rc<Self>) -> ExchangeGuard {
        self.exchange_count.set(self.exchange_count.get() + 1);
        self.phase.set(Phase::Exchange);
        ExchangeGuard(Rc::clone(self))
    }

    /// The phase that has taken too long, if one has.
    pub fn overdue(&self) -> Option<Phase> {
        let now = self.clock.elapsed();
        if let Some(since) = self.stalled_since.get()
            && now.saturating_sub(since) >= self.timeouts.body_idle
        {
            return Some(Phase::Stalled);
        }
        let phase = self.phase.get();
        let allowed = match phase {
            Phase::Head => self.timeouts.request_head,
            Phase::Idle => self.timeouts.idle,
            Phase::Exchange | Phase::Stalled => return None,
        };
        (now.saturating_sub(self.since.get()) >= allowed).then_some(phase)
    }

    /// How long the timer may sleep: no longer than the shortest of what it
    /// guards, so that short timeouts are kept, too.
    pub fn check_period(&self) -> Duration {
        let Timeouts { request_head, idle, body_idle, .. } = self.timeouts;
        CHECK_PERIOD.min(request_head).min(idle).min(body_idle)
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.elapsed());
    }
}

/// Of the downstream's socket.
impl Observer for Rc<Watch> {
    fn bytes_came(&self) {
        if self.phase.get() == Phase::Idle && !self.multiplexed {
            self.enter(Phase::Head);
        }
    }

    fn wrote(&self, is_blocked: bool) {
        match (is_blocked, self.stalled_since.get()) {
            (true, None) => self.stalled_since.set(Some(self.clock.elapsed())),
            (false, Some(_)) => self.stalled_since.set(None),
            _ => {}
        }
    }
}

/// One request is being answered, to the last byte of the answer's body.
#[derive(Debug)]
pub struct ExchangeGuard(Rc<Watch>);

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        let left = self.0.exchange_count.get().saturating_sub(1);
        self.0.exchange_count.set(left);
        if left == 0 {
            self.0.enter(Phase::Idle);
        }
    }
}
