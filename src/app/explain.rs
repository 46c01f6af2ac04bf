//! `weir explain`: what the policies make of one request, without sending it.
//!
//! From the files, it tells which limits apply, under which keys. From a Weir that
//! runs, asked at its admin door, also what is left of them, under the overrides and
//! bans that are in force there.
//!
//! Not here: the answer itself ([`crate::policy`]; the door's, [`crate::listener`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::{runtime, time};

use crate::base::clock::Clock;
use crate::base::files;
use crate::policy::{Explained, Plan, PolicySet, Question, explanation};

use super::{Error, Written};

/// The admin door of a Weir that runs.
#[derive(Clone, Debug)]
pub struct Door {
    /// `http://127.0.0.1:9900`.
    pub address: Uri,
    /// Where the token is that it wants.
    pub token_file: Option<PathBuf>,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why a door does not explain.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It is not where it should be.
    #[error("`{0}` is not the address of an admin door; write it as http://127.0.0.1:9900")]
    Address(Uri),
    /// Its token cannot be read.
    #[error("the token file {} cannot be read: {reason}", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It cannot be reached, or breaks off.
    #[error("no answer from {address}: {reason}")]
    Silent {
        /// Where it was asked.
        address: String,
        /// Why not.
        reason: String,
    },
    /// It refuses.
    #[error("{address} refuses: {detail}")]
    Refused {
        /// Where it was asked.
        address: String,
        /// What it says.
        detail: String,
    },
}

/// How long the door may take.
const DOOR_TIMEOUT: Duration = Duration::from_secs(10);

/// What the policies make of one request, policy by policy.
///
/// # Errors
/// As of [`super::check`], the request has no single meaning, or the door does not
/// answer.
pub fn explain(
    config: &Path,
    question: &Question,
    door: Option<&Door>,
    form: Form,
) -> Result<String, Error> {
    let explained = match door {
        Some(door) => ask(door, question)?,
        None => from_files(&Written::read(config)?.policies, question)?,
    };
    Ok(match form {
        // Cannot fail: texts and numbers.
        Form::Json => serde_json::to_string_pretty(&explained).unwrap_or_default(),
        Form::Text => explanation(&explained, door.is_some()).trim_end().to_owned(),
    })
}

fn from_files(set: &PolicySet, question: &Question) -> Result<Vec<Explained>, Error> {
    let asked = question.read().map_err(Error::Question)?;
    let mut plan = Plan::default();
    set.plan(&asked.facts(), Some(Clock::system().now()), &mut plan);
    Ok(set.explain(&asked.facts(), &plan))
}

fn ask(door: &Door, question: &Question) -> Result<Vec<Explained>, Error> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    Ok(runtime.block_on(ask_door(door, question))?)
}

async fn ask_door(door: &Door, question: &Question) -> Result<Vec<Explained>, DoorError> {
    let authority = match (door.address.scheme_str(), door.address.authority()) {
        (Some("http") | None, Some(authority)) => authority.to_string(),
        _ => return Err(DoorError::Address(door.address.clone())),
    };
    let body = serde_json::to_string(question).unwrap_or_default();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/explain")
        .header(HOST, &authority)
        .header(CONTENT_TYPE, "application/json");
    if let Some(path) = &door.token_file {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token(path)?));
    }
    let silent = |reason: String| DoorError::Silent { address: authority.clone(), reason };
    let request =
        request.body(Full::new(Bytes::from(body))).map_err(|error| silent(error.to_string()))?;
    let (is_ok, answer) = match time::timeout(DOOR_TIMEOUT, send(&authority, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(reason)) => return Err(silent(reason)),
        Err(_elapsed) => return Err(silent(format!("none within {DOOR_TIMEOUT:?}"))),
    };
    let json: serde_json::Value =
        serde_json::from_slice(&answer).map_err(|error| silent(error.to_string()))?;
    if !is_ok {
        let detail = json["detail"].as_str().unwrap_or("without a word").to_owned();
        return Err(DoorError::Refused { address: authority, detail });
    }
    serde_json::from_value(json["policies"].clone()).map_err(|error| silent(error.to_string()))
}

/// Sends a request on a connection of its own; whether it was answered well, and the
/// body of the answer.
async fn send(authority: &str, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), String> {
    let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let is_ok = response.status().is_success();
        Ok((is_ok, response.into_body().collect().await?.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    }
    .map_err(|error: hyper::Error| error.to_string())
}

fn token(path: &Path) -> Result<String, DoorError> {
    let wrong = |reason: String| DoorError::Token { path: path.to_owned(), reason };
    let bytes = files::read(path, 4 << 10).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Functions, compile};

    #[test]
    fn each_policy_says_what_it_makes_of_a_request() {
        let text = "
policies:
  - name: api
    match: { path: /api/**, method: POST }
    key: [client_ip, header:x-tenant]
    cost: 2
    limits: [{ quota: 10, window: 1s }, { quota: 100, window: 1h, algorithm: token_bucket }]
  - { name: other, match: { path: /other }, limits: [{ quota: 1, window: 1s }] }
  - name: staff
    key: client_ip
    overrides: [{ key: [10.0.0.0/8], unlimited: true }]
    limits: [{ quota: 1, window: 1s }]
";
        let files = |_: &str| Err("no files".to_owned());
        let set = compile("p.yaml", text, &Functions::default(), &files).unwrap();
        let question = Question {
            request: "POST /api//x?y=z".to_owned(),
            headers: vec!["X-Tenant: acme".to_owned()],
            from: "10.0.0.1".parse().unwrap(),
        };
        let told = explanation(&from_files(&set, &question).unwrap(), false);
        let told = told.trim_end();
        let expected = "\
api: 10 per 1s and 100 per 1h, 100 at once (token_bucket) by client_ip, header:x-tenant on POST /api/**
  key        10.0.0.1|acme
  limit      10 per 1s, costs 2  weir:api:0:{10.0.0.1|acme}
  limit      100 per 1h, 100 at once (token_bucket), costs 2  weir:api:1:{10.0.0.1|acme}
other: 1 per 1s all together on /other
  unmatched  the path /api/x is not /other
staff: 1 per 1s by client_ip on every request
  unlimited  a list or an override says so, or the key is missing
what is left was not asked for; `--admin URL` asks a Weir that runs";
        assert!(told == expected, "{told}");
    }
}
