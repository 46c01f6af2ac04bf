//! Facts of an HTTP request: what policies are matched against.
//!
//! Host and path are normalised here, once; the same path is routed by and
//! forwarded, so that no spelling of it is seen differently by two of them.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;

use crate::policy::{Headers, RequestFacts, client_address, host, path};

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
}

/// What was found out about a request; the facts borrow from it.
#[derive(Debug)]
pub struct Findings<'a> {
    method: &'a str,
    host: Cow<'a, str>,
    /// The normalised path, without the query.
    pub path: Cow<'a, str>,
    client: IpAddr,
    fields: Fields<'a>,
}

impl<'a> Findings<'a> {
    /// Looks at a head that passed [`super::head::check`].
    ///
    /// # Errors
    /// The path cannot be normalised.
    pub fn of(head: &'a Parts, peer: IpAddr, trusted_hops: u32) -> Result<Self, BadRequest> {
        let path = path::normalise(head.uri.path()).map_err(BadRequest::Path)?;
        let host = host_of(head);
        let client = if trusted_hops == 0 {
            peer
        } else {
            let lines = head.headers.get_all(X_FORWARDED_FOR).iter().map(|it| it.as_bytes());
            client_address::client_address(peer, lines, trusted_hops)
        };
        let method = head.method.as_str();
        Ok(Findings { method, host, path, client, fields: Fields(&head.headers) })
    }

    /// The path to forward, if it is not the one that was written.
    pub fn rewritten_path(self) -> Option<String> {
        match self.path {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        }
    }

    /// The facts, as policies take them.
    pub fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: self.method,
            host: &self.host,
            path: &self.path,
            client: self.client,
            headers: &self.fields,
        }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The host that is asked, normalised; empty for an HTTP/1.0 request without.
fn host_of(head: &Parts) -> Cow<'_, str> {
    let field = head.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let raw = field.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
    host::normalise(raw.unwrap_or_default())
}
