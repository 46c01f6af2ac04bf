//! Facts of an HTTP request: what policies are matched against.
//!
//! Host and path are normalised here, once; the same path is routed by and
//! forwarded, so that no spelling of it is seen differently by two of them.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::policy::client_address::Trust;
use crate::policy::{Headers, RequestFacts, host, path};

use super::errors::BadRequest;

/// A request's fields as policies read them.
///
/// Of several lines of one name the first counts. A downstream that sends two
/// can therefore not choose a second key beside the one that is limited.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a HeaderMap);

impl Headers for Fields<'_> {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.0.get(name).map(|value| value.as_bytes())
    }

    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
    }

    fn size_bytes(&self) -> u64 {
        self.0.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
    }
}

/// What was found out about a request; the facts borrow from it.
#[derive(Debug)]
pub struct Findings<'a> {
    method: &'a str,
    host: Cow<'a, str>,
    written_path: &'a str,
    query: &'a str,
    /// What `Content-Length` says.
    body_bytes: Option<u64>,
    /// The normalised target, when the path was not written so.
    rewritten: Option<PathAndQuery>,
    client: IpAddr,
    fields: Fields<'a>,
}

impl<'a> Findings<'a> {
    /// Looks at a head that passed [`super::head::check`].
    ///
    /// # Errors
    /// The path cannot be normalised.
    pub fn of(head: &'a Parts, peer: IpAddr, trust: &Trust) -> Result<Self, BadRequest> {
        let written_path = head.uri.path();
        let rewritten = match path::normalise(written_path).map_err(BadRequest::Path)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(with_query(path, head.uri.query())?),
        };
        let client = if trust.believes(peer) {
            let lines = head.headers.get_all(trust.field.name()).iter();
            trust.client(peer, lines.map(|it| it.as_bytes()))
        } else {
            peer
        };
        let (method, host) = (head.method.as_str(), host_of(head));
        let fields = Fields(&head.headers);
        let query = head.uri.query().unwrap_or_default();
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let body_bytes = length.and_then(|it| it.parse().ok());
        Ok(Findings { method, host, written_path, query, body_bytes, rewritten, client, fields })
    }

    /// The facts, as policies take them.
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: self.method,
            host: &self.host,
            path: self.path(),
            query: self.query,
            client: self.client,
            headers: &self.fields,
            body_bytes: self.body_bytes,
            descriptors: &[],
        }
    }

    /// The normalised path, without the query.
    pub fn path(&self) -> &str {
        self.rewritten.as_ref().map_or(self.written_path, PathAndQuery::path)
    }

    /// The target to forward, if it is not the one that was written.
    pub fn into_rewritten(self) -> Option<PathAndQuery> {
        self.rewritten
    }
}

/// A target from a normalised path and the query as it was written.
fn with_query(path: String, query: Option<&str>) -> Result<PathAndQuery, BadRequest> {
    let mut target = path;
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| BadRequest::Target)
}

/// The host that is asked, normalised; empty for an HTTP/1.0 request without.
fn host_of(head: &Parts) -> Cow<'_, str> {
    let field = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let raw = field.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
    host::normalise(raw.unwrap_or_default())
}
