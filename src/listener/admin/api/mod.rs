//! The admin API: look at policies and keys, reset them, set overrides, revoke bans.
//!
//! ```text
//! GET     /api/v1/policies[/NAME]               what is in force
//! GET     /api/v1/policies/NAME/keys/PART/…     what is left for a key
//! DELETE  /api/v1/policies/NAME/keys/PART/…     forget what it used
//! PUT     /api/v1/policies/NAME/overrides       set an override
//! GET     /api/v1/overrides[/ID]                those that were set
//! DELETE  /api/v1/overrides/ID                  take one back
//! GET     /api/v1/bans                          who is banned
//! DELETE  /api/v1/policies/NAME/bans/PART/…     revoke a ban
//! POST    /api/v1/explain                       what the policies make of a request
//! ```
//!
//! A key is written part by part, as a request has them, percent-encoded; an empty
//! part is an absent one. Or it is written whole as it is counted under, `?key=…`,
//! which is how lists name it. A key does not tell everything of a request: `?tier=NAME`
//! says in which tier it would be, and `unseen` of the answer what else was not looked
//! at. Answers are JSON, refusals problems (RFC 9457).
//!
//! # Who may
//!
//! With a token, only who shows it. Without one, whoever reaches the door may look,
//! and may change something only if the door is on a loopback address. Changes are
//! `PUT` and `DELETE`, and what has a body must say that it is JSON: a form on a web
//! page can send none of these, and a script of another origin would have to ask
//! first (CORS), which nobody answers.
//!
//! Not here: what any of it means ([`crate::limiter`]).

mod answers;
mod problem;
mod target;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use prometheus::{IntCounterVec, Opts, Registry};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time;

use crate::limiter::Limiter;

use problem::Problem;
use target::Target;

/// Bytes of a request's body.
const BODY_SIZE_MAX: usize = 64 << 10;

/// How long a request's body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the paths of the API begin with.
pub(super) const PREFIX: &str = "/api/";

/// The API. It answers 503 until there is something to ask.
#[derive(Debug)]
pub struct Api {
    limiter: OnceLock<Arc<Limiter>>,
    /// The digest of the token that a client must show, if one must be shown.
    token: Option<[u8; 32]>,
    /// Whether those who show no token may change something.
    is_open: bool,
    changes: IntCounterVec,
}

/// What a request may ask for, and who it is.
#[derive(Clone, Copy, Debug)]
struct Caller {
    peer: SocketAddr,
    may_change: bool,
}

impl Api {
    /// An API that wants `token`, if there is one; without, a door that `is_open` lets
    /// everybody change things.
    ///
    /// # Errors
    /// A metric of the same name is registered already.
    pub fn new(
        token: Option<&str>,
        is_open: bool,
        registry: &Registry,
    ) -> Result<Api, prometheus::Error> {
        let options = Opts::new("weir_admin_changes_total", "What was changed by the admin API");
        let changes = IntCounterVec::new(options, &["outcome"])?;
        registry.register(Box::new(changes.clone()))?;
        for change in ["key_reset", "override_set", "override_taken_back", "ban_revoked"] {
            changes.with_label_values(&[change]);
        }
        let token = token.map(|token| Sha256::digest(token).into());
        Ok(Api { limiter: OnceLock::new(), token, is_open, changes })
    }

    /// From here on it answers for `limiter`.
    pub fn serve(&self, limiter: &Arc<Limiter>) {
        // Set once, by the one start of the process.
        let _ = self.limiter.set(Arc::clone(limiter));
    }

    /// The answer to a request whose path begins with [`PREFIX`].
    pub(super) async fn answer<B>(
        &self,
        request: Request<B>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.respond(request, peer).await {
            Ok(json) => super::response(http::StatusCode::OK, "application/json", json.to_string()),
            Err(problem) => problem.response(),
        }
    }

    async fn respond<B>(
        &self,
        request: Request<B>,
        peer: SocketAddr,
    ) -> Result<serde_json::Value, Problem>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let caller = Caller { peer, may_change: self.admit(&request)? };
        let target = Target::read(request.uri())?;
        let method = request.method().clone();
        target.resource.allows(&method)?;
        let is_change = matches!(method, Method::PUT | Method::DELETE);
        if is_change && !caller.may_change {
            return Err(Problem::forbidden(
                "the admin door is not on a loopback address; name a file in admin.token_file, and show its token",
            ));
        }
        let limiter = self.limiter.get().ok_or_else(Problem::loading)?;
        let body = match method {
            Method::PUT | Method::POST => read_body(request).await?,
            _ => String::new(),
        };
        let (json, change) = answers::answer(limiter, &method, &target, &body).await?;
        if let Some(change) = change {
            self.changes.with_label_values(&[change]).inc();
            let (peer, path) = (caller.peer, target.path);
            tracing::warn!(change, %peer, path, body, "changed by the admin API");
        }
        Ok(json)
    }

    /// Whether who asks may change something.
    fn admit<B>(&self, request: &Request<B>) -> Result<bool, Problem> {
        let Some(wanted) = &self.token else { return Ok(self.is_open) };
        let field = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        let shown = field.and_then(|it| it.split_once(' '));
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = shown.map(|(_, token)| token.trim()).ok_or_else(Problem::unauthorized)?;
        let shown: [u8; 32] = Sha256::digest(token).into();
        // Digests, so that neither time nor length tells anything of the token.
        if bool::from(shown.ct_eq(wanted)) { Ok(true) } else { Err(Problem::unauthorized()) }
    }
}

/// The body of a request, which must say that it is JSON.
async fn read_body<B>(request: Request<B>) -> Result<String, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let media_type = media_type.and_then(|it| it.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Problem::not_json());
    }
    let read = Limited::new(request.into_body(), BODY_SIZE_MAX).collect();
    let body = match time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(Problem::too_large(BODY_SIZE_MAX)),
        Err(_elapsed) => return Err(Problem::bad("the body does not come")),
    };
    String::from_utf8(body.into()).map_err(|_| Problem::bad("the body is not UTF-8 text"))
}
