//! From Envoy's attributes to the facts that policies look at.
//!
//! | fact | from |
//! |---|---|
//! | method, host | `request.http.method`, `.host` |
//! | path | `request.http.path` without its query, normalised as the proxy does |
//! | header fields | `request.http.headers`, or `.header_map` (`encode_raw_headers`) |
//! | client address | `source.address`: the peer of Envoy's connection |
//!
//! `X-Forwarded-For` is not read here. Which hops may be believed is Envoy's
//! business, and a second opinion would let a client choose its own key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as Endpoint;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};

use crate::policy::path::{self, PathError};
use crate::policy::{Headers, RequestFacts};

/// What keeps a check from being decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Envoy did not send an attribute that every check has. The caller is
    /// misconfigured or is not Envoy's HTTP filter.
    #[error("attribute {0} is missing")]
    Missing(&'static str),
    /// The source is not an internet address, such as a Unix socket.
    #[error("source.address is not an IP address")]
    NotAnAddress,
    /// The request's path has no single meaning. This is the downstream's fault.
    #[error("the path is refused: {0}")]
    Path(#[from] PathError),
}

/// A check, taken apart: it owns or borrows what [`RequestFacts`] borrows.
pub(super) struct Check<'a> {
    http: &'a HttpRequest,
    path: String,
    client: IpAddr,
    headers: Fields<'a>,
}

impl<'a> Check<'a> {
    /// Reads what the facts need.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(super) fn read(request: &'a CheckRequest) -> Result<Check<'a>, Error> {
        let attributes = request.attributes.as_ref().ok_or(Error::Missing("attributes"))?;
        let http = attributes
            .request
            .as_ref()
            .and_then(|request| request.http.as_ref())
            .ok_or(Error::Missing("request.http"))?;
        if http.method.is_empty() {
            return Err(Error::Missing("request.http.method"));
        }
        let client = client_address(attributes)?;
        let target = http.path.as_str();
        let target_end = target.find(['?', '#']).unwrap_or(target.len());
        let mut path = String::new();
        path::normalise(&target[..target_end], &mut path)?;
        let headers = match &http.header_map {
            Some(header_map) => Fields::Raw(combined(header_map)),
            None => Fields::Text(&http.headers),
        };
        Ok(Check { http, path, client, headers })
    }

    /// The facts.
    pub(super) fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: &self.http.method,
            host: &self.http.host,
            path: &self.path,
            client: self.client,
            headers: &self.headers,
        }
    }
}

fn client_address(attributes: &AttributeContext) -> Result<IpAddr, Error> {
    let address = attributes.source.as_ref().and_then(|peer| peer.address.as_ref());
    match address {
        Some(Address { address: Some(Endpoint::SocketAddress(socket)) }) => {
            let address: IpAddr = socket.address.parse().map_err(|_| Error::NotAnAddress)?;
            // An IPv4 client of a dual-stack listener is the same client.
            Ok(address.to_canonical())
        }
        Some(Address { address: Some(_) }) => Err(Error::NotAnAddress),
        Some(Address { address: None }) | None => Err(Error::Missing("source.address")),
    }
}

/// Header fields in either of the two shapes that Envoy sends. Names are lower
/// case in both.
enum Fields<'a> {
    /// Values as text; Envoy has combined lines of one name and put `!` for
    /// what is not UTF-8.
    Text(&'a HashMap<String, String>),
    /// Values as bytes, lines of one name combined by [`combined`].
    Raw(HashMap<&'a str, Cow<'a, [u8]>>),
}

impl Headers for Fields<'_> {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        match self {
            Fields::Text(headers) => headers.get(name).map(String::as_bytes),
            Fields::Raw(headers) => headers.get(name).map(Cow::as_ref),
        }
    }
}

/// Joins lines of one name with a comma, as Envoy does in the text shape, so
/// that `encode_raw_headers` does not change anyone's key.
fn combined(header_map: &HeaderMap) -> HashMap<&str, Cow<'_, [u8]>> {
    let mut headers: HashMap<&str, Cow<'_, [u8]>> =
        HashMap::with_capacity(header_map.headers.len());
    for line in &header_map.headers {
        headers
            .entry(line.key.as_str())
            .and_modify(|value| {
                let value = value.to_mut();
                value.push(b',');
                value.extend_from_slice(&line.raw_value);
            })
            .or_insert(Cow::Borrowed(&line.raw_value));
    }
    headers
}
