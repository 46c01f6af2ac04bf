//! The way of a request. Begin reading here: at [`respond`].
//!
//! A request comes from hyper with its head parsed and its body unread. It is
//! looked at, decided, and forwarded or refused; each phase names the room where
//! it happens. [`answer`] is the frame around that: what is counted, and what
//! becomes of a body that nobody read.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, header};
use hyper::body::{Body as _, Incoming};

use crate::limiter::Verdict;

use super::body::ResponseBody;
use super::connection::Downstream;
use super::echo;
use super::errors::ForwardError;
use super::facts::{Fields, Findings};
use super::forward::Forwarder;
use super::head;
use super::metrics::Outcome;
use super::record::Record;
use super::refuse;
use super::worker::Target;

/// Answers one request, whatever becomes of it.
///
/// Cancel safe: hyper drops this future when the downstream goes away. The
/// upstream's connection is closed with it, what was charged stays charged, and
/// the record counts the request as abandoned.
///
/// # Errors
/// The downstream went away, and hyper did not see it.
pub async fn answer(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Gone> {
    let worker = &downstream.worker;
    let exchange = downstream.watch.exchange();
    let record = Record::begin(&worker.proxy, &request, downstream.peer);
    let (head, body) = request.into_parts();
    let version = head.version;
    let expects_continue = head.headers.contains_key(header::EXPECT);

    let mut unread = Some(body);
    let (mut response, outcome) = respond(&downstream, head, &mut unread).await?;
    if let Some(body) = unread {
        refuse::settle_body(body, version, expects_continue, &mut response, &worker.tasks);
    }
    record.end(outcome, response.status());
    response.body_mut().keep(exchange);
    Ok(response)
}

/// The phases of a request, in order. `body` is taken when it is forwarded.
async fn respond(
    downstream: &Downstream,
    head: Parts,
    body: &mut Option<Incoming>,
) -> Result<(Response<ResponseBody>, Outcome), Gone> {
    let (worker, proxy) = (&downstream.worker, &downstream.worker.proxy);

    // What do we know of it? What can be read in two ways is refused unasked.
    let found =
        head::check(&head).and_then(|()| Findings::of(&head, downstream.peer, &proxy.trust));
    let findings = match found {
        Ok(findings) => findings,
        Err(bad) => return Ok(refuse::bad_request(bad)),
    };

    // Which limits apply, under which keys? One question, one decision.
    let mut scratch = worker.lend_scratch();
    // Where a policy delays, this waits; the body stays where it is meanwhile.
    let facts = findings.facts();
    let decision = tokio::select! {
        biased;
        decision = proxy.limiter.check_within(Duration::MAX, &facts, &mut scratch) => decision,
        () = leaves_unseen(downstream, body.as_ref()) => return Err(Gone),
    };
    worker.give_back_scratch(scratch);

    // Forwarded, or refused.
    let (mut response, outcome) = match (decision.verdict, worker.route(findings.path())) {
        (Verdict::Deny, _) => (refuse::denied(&decision), Outcome::Refused),
        (Verdict::Admit, None) => refuse::failed(&ForwardError::NoRoute),
        (Verdict::Admit, Some(Target::Echo)) => {
            (echo::reply(&head, findings.path(), downstream.peer), Outcome::Echoed)
        }
        (Verdict::Admit, Some(Target::Http(pool))) => {
            let rewritten = findings.into_rewritten();
            let forwarder = Forwarder {
                pool,
                timeouts: &proxy.timeouts,
                metrics: &proxy.metrics,
                sender: &downstream.sender,
            };
            match forwarder.forward(head, rewritten, body).await {
                Ok(response) => (response, Outcome::Forwarded),
                Err(error) => refuse::failed(&error),
            }
        }
    };

    // Either way the downstream is told where it stands.
    if let Some(fields) = &decision.fields {
        refuse::add_limits(response.headers_mut(), fields);
    }
    if let Some(mut dues) = decision.dues {
        dues.head(response.status().as_u16(), &Fields(response.headers()));
        response.body_mut().owe(dues);
    }
    Ok((response, outcome))
}

/// The downstream went away while its request waited.
#[derive(Debug, thiserror::Error)]
#[error("the downstream is gone")]
pub struct Gone;

/// Waits until the downstream is gone, where hyper does not look for that: as long as a
/// body is not read whole. Otherwise for ever.
async fn leaves_unseen(downstream: &Downstream, unread: Option<&Incoming>) {
    match &downstream.other_side {
        Some(other_side) if unread.is_some_and(|it| !it.is_end_stream()) => other_side.gone().await,
        _ => pending().await,
    }
}
