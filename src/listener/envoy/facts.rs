//! From Envoy's attributes to the facts that policies look at.
//!
//! | fact | from |
//! |---|---|
//! | method, host | `request.http.method`, `.host` |
//! | path | `request.http.path` without its query, normalised as the proxy does |
//! | header fields | `request.http.headers`, or `.header_map` (`encode_raw_headers`) |
//! | client address | `source.address`, the peer of Envoy's connection; when it is one of `trusted_proxies`, the first from the right of `X-Forwarded-For` or `Forwarded` that is none |
//!
//! `source.address` stays the peer even where Envoy trusts hops before it. Proxies
//! that are known by their number only (`trusted_hops`) are not counted here: Envoy
//! may or may not have added the peer to the list already. A policy can also key by
//! what Envoy itself found: `header:x-envoy-external-address`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as Endpoint;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};

use crate::policy::client_address::{Proxies, Trust};
use crate::policy::path::{self, PathError};
use crate::policy::{Headers, RequestFacts, host};

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
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A check, taken apart: it owns or borrows what [`RequestFacts`] borrows.
pub(super) struct Check<'a> {
    method: &'a str,
    host: Cow<'a, str>,
    path: Cow<'a, str>,
    query: &'a str,
    body_bytes: Option<u64>,
    client: IpAddr,
    headers: Fields<'a>,
}

impl<'a> Check<'a> {
    /// Reads what the facts need.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub(super) fn read(request: &'a CheckRequest, trust: &Trust) -> Result<Check<'a>, Error> {
        let attributes = request.attributes.as_ref().ok_or(Error::Missing("attributes"))?;
        let http = attributes
            .request
            .as_ref()
            .and_then(|request| request.http.as_ref())
            .ok_or(Error::Missing("request.http"))?;
        if http.method.is_empty() {
            return Err(Error::Missing("request.http.method"));
        }
        let peer = peer_address(attributes)?;
        let target = http.path.as_str();
        let target_end = target.find(['?', '#']).unwrap_or(target.len());
        let path = path::normalise(&target[..target_end])?;
        let headers = match &http.header_map {
            Some(header_map) => Fields::Raw(combined(header_map)),
            None => Fields::Text(&http.headers),
        };
        let client = match &trust.proxies {
            Proxies::Hops(_) => peer,
            // Lines of one name are one line here, joined in order.
            Proxies::In(_) => trust.client(peer, headers.get(trust.field.name()).into_iter()),
        };
        let query = target[target_end..].strip_prefix('?').unwrap_or_default();
        let query = query.split('#').next().unwrap_or_default();
        // Envoy says -1 when it does not know.
        let body_bytes = u64::try_from(http.size).ok();
        let (method, host) = (http.method.as_str(), host::normalise(&http.host));
        Ok(Check { method, host, path, query, body_bytes, client, headers })
    }

    /// The request is a gRPC call, whose refusal is told in gRPC's own terms.
    pub(super) fn is_grpc(&self) -> bool {
        let content_type = self.headers.get("content-type").unwrap_or_default();
        content_type.starts_with(b"application/grpc")
    }

    /// The facts.
    pub(super) fn facts(&self) -> RequestFacts<'_> {
        RequestFacts {
            method: self.method,
            host: &self.host,
            path: &self.path,
            query: self.query,
            client: self.client,
            headers: &self.headers,
            body_bytes: self.body_bytes,
            descriptors: &[],
        }
    }
}

fn peer_address(attributes: &AttributeContext) -> Result<IpAddr, Error> {
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

    fn size_bytes(&self) -> u64 {
        let size = |name: usize, value: usize| (name + value) as u64;
        match self {
            Fields::Text(headers) => {
                headers.iter().map(|(it, value)| size(it.len(), value.len())).sum()
            }
            Fields::Raw(headers) => {
                headers.iter().map(|(it, value)| size(it.len(), value.len())).sum()
            }
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

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{HeaderValue, Pipe, SocketAddress};
    use envoy_types::pb::envoy::service::auth::v3::attribute_context::{
        HttpRequest, Peer, Request,
    };

    use super::*;

    /// The check that Envoy sends for `GET /a?b` from 10.0.0.1.
    fn plain() -> CheckRequest {
        let socket = SocketAddress { address: "10.0.0.1".to_owned(), ..Default::default() };
        let address = Address { address: Some(Endpoint::SocketAddress(socket)) };
        let http = HttpRequest {
            method: "GET".to_owned(),
            host: "Example.com:8080".to_owned(),
            path: "/a?b".to_owned(),
            headers: HashMap::from([("x-user".to_owned(), "ann".to_owned())]),
            ..Default::default()
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer { address: Some(address), ..Default::default() }),
                request: Some(Request { http: Some(http), ..Default::default() }),
                ..Default::default()
            }),
        }
    }

    fn http(check: &mut CheckRequest) -> &mut HttpRequest {
        let request = check.attributes.as_mut().unwrap().request.as_mut().unwrap();
        request.http.as_mut().unwrap()
    }

    fn set_source(check: &mut CheckRequest, endpoint: Option<Endpoint>) {
        let source = check.attributes.as_mut().unwrap().source.as_mut().unwrap();
        source.address = Some(Address { address: endpoint });
    }

    fn socket(address: &str) -> Option<Endpoint> {
        let address = address.to_owned();
        Some(Endpoint::SocketAddress(SocketAddress { address, ..Default::default() }))
    }

    /// The error of the plain check after `spoil`.
    fn error(spoil: impl FnOnce(&mut CheckRequest)) -> Option<Error> {
        let mut check = plain();
        spoil(&mut check);
        Check::read(&check, &Trust::default()).err()
    }

    #[test]
    fn facts_are_those_of_the_proxy() {
        let request = plain();
        let check = Check::read(&request, &Trust::default()).unwrap();
        let facts = check.facts();
        assert_eq!((facts.method, facts.host, facts.path), ("GET", "example.com", "/a"));
        assert_eq!(facts.client, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(facts.headers.get("x-user"), Some(&b"ann"[..]));
        assert_eq!(facts.headers.get("x-other"), None);
        assert!(!check.is_grpc());
    }

    #[test]
    fn a_grpc_call_is_known_by_its_content_type() {
        for (content_type, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/json", false),
        ] {
            let mut request = plain();
            let headers = &mut http(&mut request).headers;
            headers.insert("content-type".to_owned(), content_type.to_owned());
            assert_eq!(
                Check::read(&request, &Trust::default()).unwrap().is_grpc(),
                is_grpc,
                "{content_type}"
            );
        }
    }

    #[test]
    fn spellings_of_a_path_become_one_and_the_query_is_cut() {
        for (raw, normal) in [
            ("/a/./b//c?x=/../y", "/a/b/c"),
            ("/%61?", "/a"),
            ("/a/../b#fragment?", "/b"),
            ("/a?x=%00", "/a"),
        ] {
            let mut request = plain();
            http(&mut request).path = raw.to_owned();
            assert_eq!(
                Check::read(&request, &Trust::default()).unwrap().facts().path,
                normal,
                "{raw}"
            );
        }
        for raw in ["", "*", "?x", "a", "/%00", "/%2f", "/a\\b", "/../a"] {
            let got = error(|check| http(check).path = raw.to_owned());
            assert!(matches!(got, Some(Error::Path(_))), "{raw}: {got:?}");
        }
    }

    #[test]
    fn a_check_without_what_every_check_has_says_what_is_missing() {
        let missing = |name| Some(Error::Missing(name));
        assert_eq!(error(|check| check.attributes = None), missing("attributes"));
        let attributes = |check: &mut CheckRequest| check.attributes.clone().unwrap();
        let without_request = AttributeContext { request: None, ..attributes(&mut plain()) };
        assert_eq!(error(|it| it.attributes = Some(without_request)), missing("request.http"));
        let without_source = AttributeContext { source: None, ..attributes(&mut plain()) };
        assert_eq!(error(|it| it.attributes = Some(without_source)), missing("source.address"));
        assert_eq!(error(|it| set_source(it, None)), missing("source.address"));
        assert_eq!(error(|it| http(it).method.clear()), missing("request.http.method"));
    }

    #[test]
    fn a_client_without_an_address_is_not_given_a_shared_one() {
        let pipe = Endpoint::Pipe(Pipe { path: "/run/envoy.sock".to_owned(), mode: 0 });
        assert_eq!(error(|check| set_source(check, Some(pipe))), Some(Error::NotAnAddress));
        for address in ["", "localhost", "10.0.0.1:80"] {
            let got = error(|check| set_source(check, socket(address)));
            assert_eq!(got, Some(Error::NotAnAddress), "{address}");
        }
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_the_same_client() {
        let mut request = plain();
        set_source(&mut request, socket("::ffff:10.0.0.1"));
        let check = Check::read(&request, &Trust::default()).unwrap();
        assert_eq!(check.facts().client, "10.0.0.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn behind_trusted_proxies_the_client_is_the_first_that_is_none() {
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let trust = Trust { proxies: Proxies::In(networks), ..Trust::default() };
        for (source, forwarded_for, client) in [
            ("10.0.0.1", "6.6.6.6,203.0.113.7", "203.0.113.7"),
            // Envoy has added the peer to the list already, or has not.
            ("10.0.0.1", "6.6.6.6, 203.0.113.7,10.0.0.1", "203.0.113.7"),
            ("10.0.0.1", "203.0.113.7,unknown", "10.0.0.1"),
            ("203.0.113.9", "6.6.6.6", "203.0.113.9"),
        ] {
            let mut request = plain();
            set_source(&mut request, socket(source));
            let headers = &mut http(&mut request).headers;
            headers.insert("x-forwarded-for".to_owned(), forwarded_for.to_owned());
            let check = Check::read(&request, &trust).unwrap();
            assert_eq!(check.facts().client.to_string(), client, "{source}, {forwarded_for}");
        }
    }

    #[test]
    fn both_shapes_of_header_fields_say_the_same() {
        let line = |key: &str, value: &[u8]| HeaderValue {
            key: key.to_owned(),
            value: String::new(),
            raw_value: value.to_vec(),
        };
        let mut raw = plain();
        let lines = vec![line("x-user", b"ann"), line("x-bytes", b"\xff"), line("x-user", b"bob")];
        http(&mut raw).headers.clear();
        http(&mut raw).header_map = Some(HeaderMap { headers: lines });
        let mut text = plain();
        http(&mut text).headers.insert("x-user".to_owned(), "ann,bob".to_owned());
        for request in [raw, text] {
            let check = Check::read(&request, &Trust::default()).unwrap();
            assert_eq!(check.facts().headers.get("x-user"), Some(&b"ann,bob"[..]));
        }
    }
}
