//! Dues: what an admitted request gives back when its response has ended.
//!
//! A lease (`concurrency`) is released, whatever ends the request: an answer, a
//! downstream that left, a task that was dropped. So dues pay themselves when they
//! are dropped. Paying means asking the store, which a destructor cannot wait for;
//! it sends them to the one task that does, [`Payments::pay`]. There are never more
//! of them under way than requests.
//!
//! If the process dies, nobody pays, and the lease ends by its deadline.

use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::policy::Algorithm;
use crate::resp::Reply;
use crate::store::{Call, Store};

use super::Limiter;
use super::ask::Scratch;
use super::live::Live;

const RELEASE: &str = "limiter.release";

/// What one request owes. Dropping it pays it.
#[derive(Debug)]
pub struct Dues {
    owed: Option<Owed>,
    payments: mpsc::UnboundedSender<Owed>,
}

/// Leases of one request, all of one name.
#[derive(Debug)]
pub(super) struct Owed {
    lease: Box<str>,
    /// Store keys of the limits that leased.
    keys: Vec<Box<[u8]>>,
}

impl Dues {
    /// What a request owes that was admitted; `None` when nothing.
    pub(super) fn of(
        scratch: &Scratch,
        live: &Live,
        payments: &mpsc::UnboundedSender<Owed>,
    ) -> Option<Dues> {
        let leased = scratch.said().filter(|(entry, outcome)| {
            *live.limit(entry).algorithm() == Algorithm::Concurrency
                && outcome.is_some_and(|it| it.admitted)
        });
        let keys: Vec<Box<[u8]>> =
            leased.map(|(entry, _)| scratch.plan().key(entry).into()).collect();
        if keys.is_empty() {
            return None;
        }
        let owed = Owed { lease: scratch.lease().into(), keys };
        Some(Dues { owed: Some(owed), payments: payments.clone() })
    }
}

impl Drop for Dues {
    fn drop(&mut self) {
        if let Some(owed) = self.owed.take() {
            // Nobody receives at the very end of the process; deadlines do then.
            let _ = self.payments.send(owed);
        }
    }
}

/// The other end: pays what requests owe.
#[derive(Debug)]
pub struct Payments(mpsc::UnboundedReceiver<Owed>);

/// Both ends.
pub(super) fn channel() -> (mpsc::UnboundedSender<Owed>, Payments) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Payments(receive))
}

impl Payments {
    /// Pays until shutdown, and then what is there. Cancel safe: the `select!`
    /// waits and does no work.
    pub async fn pay(&mut self, limiter: &Limiter, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                owed = self.0.recv() => match owed {
                    Some(owed) => limiter.pay(&owed).await,
                    None => return,
                },
            }
        }
        self.pay_waiting(limiter).await;
    }

    /// Pays what is there and does not wait for more.
    pub async fn pay_waiting(&mut self, limiter: &Limiter) {
        while let Ok(owed) = self.0.try_recv() {
            limiter.pay(&owed).await;
        }
    }
}

impl Limiter {
    async fn pay(&self, owed: &Owed) {
        if let Err(error) = owed.release(self.store()).await {
            self.tell(&error.into());
        }
    }
}

impl Owed {
    async fn release(&self, store: &Store) -> Result<(), crate::store::Error> {
        let keys: SmallVec<[&[u8]; 4]> = self.keys.iter().map(AsRef::as_ref).collect();
        let args: SmallVec<[&[u8]; 4]> = keys.iter().map(|_| self.lease.as_bytes()).collect();
        let call = Call { function: RELEASE, keys: &keys, args: &args };
        store.call(&[call], &mut vec![Reply::default()], |_| true).await?;
        Ok(())
    }
}
