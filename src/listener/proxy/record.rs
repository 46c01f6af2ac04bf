//! The record of one request: counted, and logged if the access log is on,
//! exactly once, whatever becomes of it.

use std::net::IpAddr;

use http::{Request, StatusCode};

use crate::base::clock::Stopwatch;

use super::Proxy;
use super::access::{Entry, Request as Seen};
use super::metrics::Outcome;

/// One request's record. Dropped without an end, it counts as abandoned.
#[derive(Debug)]
pub struct Record<'a> {
    proxy: &'a Proxy,
    clock: Stopwatch,
    seen: Option<Box<Seen>>,
    ended: bool,
}

impl<'a> Record<'a> {
    /// Begins with a request's head.
    pub fn begin<B>(proxy: &'a Proxy, request: &Request<B>, peer: IpAddr) -> Record<'a> {
        let seen = proxy.access.is_some().then(|| Box::new(Seen::of(request, peer)));
        Record { proxy, clock: Stopwatch::start(), seen, ended: false }
    }

    /// Ends with the head of the response.
    pub fn end(mut self, outcome: Outcome, status: StatusCode) {
        self.ended = true;
        let elapsed = self.clock.elapsed();
        self.proxy.metrics.answered(outcome, status, elapsed.as_secs_f64());
        self.log(outcome, Some(status.as_u16()));
    }

    fn log(&mut self, outcome: Outcome, status: Option<u16>) {
        if let (Some(log), Some(seen)) = (&self.proxy.access, self.seen.take()) {
            log.write(&Entry { seen: &seen, outcome, status, elapsed: self.clock.elapsed() });
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.proxy.metrics.abandoned();
            self.log(Outcome::DownstreamGone, None);
        }
    }
}
