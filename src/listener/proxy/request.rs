//! The way of a request. Begin reading here.
//!
//! A request comes from hyper with its head parsed and its body unread. It is
//! looked at, decided, and forwarded or refused; each phase is a line of
//! [`answer`] that names the room where it happens.

use std::rc::Rc;

use http::{Request, Response, header};
use hyper::body::Incoming;

use crate::limiter::Verdict;

use super::body::ResponseBody;
use super::connection::Downstream;
use super::echo;
use super::errors::ForwardError;
use super::facts::Findings;
use super::forward::Forwarder;
use super::head;
use super::metrics::Outcome;
use super::record::Record;
use super::refuse;
use super::worker::Target;

/// Answers one request.
///
/// Cancel safe: hyper drops this future when the downstream goes away. The
/// upstream's connection is closed with it, what was charged stays charged, and
/// the record counts the request as abandoned.
pub async fn answer(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (worker, proxy) = (&downstream.worker, &downstream.worker.proxy);
    let exchange = downstream.watch.exchange();
    let record = Record::begin(proxy, &request, downstream.peer);
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    let version = head.version;
    let expects_continue = head.headers.contains_key(header::EXPECT);

    // What do we know of it?
    let found =
        head::check(&head).and_then(|()| Findings::of(&head, downstream.peer, proxy.trusted_hops));
    let (mut response, outcome) = match found {
        Err(bad) => refuse::bad_request(bad),
        Ok(findings) => {
            // Which limits apply, under which keys? One question, one decision.
            let mut scratch = worker.lend_scratch();
            let decision = proxy.limiter.check(&findings.facts(), &mut scratch).await;
            worker.give_back_scratch(scratch);

            // Forwarded, or refused.
            let (mut response, outcome) = match decision.verdict {
                Verdict::Deny => (refuse::denied(&decision), Outcome::Refused),
                Verdict::Admit => match worker.route(findings.path()) {
                    None => refuse::failed(&ForwardError::NoRoute),
                    Some(Target::Echo) => {
                        let reply = echo::reply(&head, findings.path(), downstream.peer);
                        (reply, Outcome::Echoed)
                    }
                    Some(Target::Http(pool)) => {
                        let rewritten = findings.into_rewritten();
                        let forwarder = Forwarder {
                            pool,
                            timeouts: &proxy.timeouts,
                            metrics: &proxy.metrics,
                            sender: &downstream.sender,
                        };
                        match forwarder.forward(head, rewritten, &mut body).await {
                            Ok(response) => (response, Outcome::Forwarded),
                            Err(error) => refuse::failed(&error),
                        }
                    }
                },
            };
            if let Some(fields) = &decision.fields {
                refuse::add_limits(response.headers_mut(), fields);
            }
            (response, outcome)
        }
    };

    if let Some(body) = body {
        refuse::settle_body(body, version, expects_continue, &mut response, &worker.tasks);
    }
    record.end(outcome, response.status());
    response.map(|body| body.during(exchange))
}
