//! Sources: where a value of a request comes from, `client_ip`, `jwt:sub`.
//!
//! A key is made of them ([`super::key`]), and tiers, overrides and lists are
//! chosen by them ([`super::choice`]). A source that is not there, or is empty,
//! has no value.
//!
//! Not here: how a value is written into a key.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::net::IpAddr;

use serde_json::Value as Json;

use crate::base::clock::Timestamp;

use super::RequestFacts;
use super::jwt::Tokens;
use super::pattern::segments;

/// The IPv6 prefix that counts as one client: what one subscriber is given, and
/// can change addresses within at will.
pub(super) const CLIENT_PREFIX_DEFAULT: u8 = 64;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// `client_ip`, `client_ip/56`: an IPv4 address whole, an IPv6 address by
    /// its prefix of so many bits.
    ClientIp { prefix: u8 },
    /// `header:NAME`, lower case.
    Header(Box<str>),
    /// `cookie:NAME`; the first of the name.
    Cookie(Box<str>),
    /// `query:NAME`, decoded; the first of the name.
    Query(Box<str>),
    /// `method`.
    Method,
    /// `host`.
    Host,
    /// `path`, without a slash at the end.
    Path,
    /// `path:N`, its Nth segment from 1.
    Segment(usize),
    /// `jwt:CLAIM`, with dots into objects.
    Claim(Box<str>),
    /// `descriptor:NAME`, an entry of Envoy's rate limit descriptors.
    Descriptor(Box<str>),
    /// `literal:TEXT`.
    Literal(Box<str>),
}

/// A value, before it is written anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An address, and the IPv6 prefix that counts as one client.
    Address(IpAddr, u8),
    /// Anything else; not empty.
    Text(Cow<'a, [u8]>),
}

/// The claims of a request's token, read when they are first asked for.
pub(super) struct Claims<'a> {
    tokens: Option<&'a Tokens>,
    now: Option<Timestamp>,
    read: OnceCell<Option<Json>>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(tokens: Option<&'a Tokens>, now: Option<Timestamp>) -> Claims<'a> {
        Claims { tokens, now, read: OnceCell::new() }
    }

    fn get(&self, facts: &RequestFacts<'_>, claim: &str) -> Option<&Json> {
        let read = || self.tokens.and_then(|tokens| tokens.claims(facts, self.now));
        let claims = self.read.get_or_init(read).as_ref()?;
        // A claim may have a dot in its name, as those that are addresses have.
        claims.get(claim).or_else(|| claim.split('.').try_fold(claims, |json, name| json.get(name)))
    }
}

impl Source {
    /// The value that a request has here.
    pub(super) fn of<'f>(
        &self,
        facts: &RequestFacts<'f>,
        claims: &'f Claims<'_>,
    ) -> Option<Value<'f>> {
        let text: Cow<'f, [u8]> = match self {
            Source::ClientIp { prefix } => return Some(Value::Address(facts.client, *prefix)),
            Source::Header(name) => facts.headers.get(name)?.into(),
            Source::Cookie(name) => Cow::Owned(cookie(facts, name)?),
            Source::Query(name) => return query(facts.query, name).map(Value::Text),
            Source::Method => facts.method.as_bytes().into(),
            Source::Host => facts.host.as_bytes().into(),
            Source::Path => match facts.path.strip_suffix('/') {
                None | Some("") => facts.path.as_bytes().into(),
                Some(path) => path.as_bytes().into(),
            },
            Source::Segment(number) => segments(facts.path).nth(number - 1)?.as_bytes().into(),
            Source::Claim(name) => match claims.get(facts, name)? {
                Json::String(text) => text.as_bytes().into(),
                Json::Number(number) => number.to_string().into_bytes().into(),
                Json::Bool(flag) => flag.to_string().into_bytes().into(),
                Json::Null | Json::Array(_) | Json::Object(_) => return None,
            },
            Source::Descriptor(name) => {
                let entry = facts.descriptors.iter().find(|(key, _)| **key == **name)?;
                entry.1.as_bytes().into()
            }
            Source::Literal(text) => Cow::Owned(text.as_bytes().to_vec()),
        };
        (!text.is_empty()).then_some(Value::Text(text))
    }
}

/// The first cookie of a name; HTTP/2 may send them on lines of their own.
fn cookie(facts: &RequestFacts<'_>, name: &str) -> Option<Vec<u8>> {
    let mut found = None;
    facts.headers.each("cookie", &mut |line| {
        let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        for pair in pairs {
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
            if found.is_none() && &pair[..at] == name.as_bytes() {
                let value = &pair[at + 1..];
                let quoted = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
                found = Some(quoted.unwrap_or(value).to_vec());
            }
        }
    });
    found
}

fn query<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
    (!value.is_empty()).then(|| match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
        Cow::Owned(value) => Cow::Owned(value.into_bytes()),
    })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::ClientIp { prefix: CLIENT_PREFIX_DEFAULT } => f.write_str("client_ip"),
            Source::ClientIp { prefix } => write!(f, "client_ip/{prefix}"),
            Source::Header(name) => write!(f, "header:{name}"),
            Source::Cookie(name) => write!(f, "cookie:{name}"),
            Source::Query(name) => write!(f, "query:{name}"),
            Source::Method => f.write_str("method"),
            Source::Host => f.write_str("host"),
            Source::Path => f.write_str("path"),
            Source::Segment(number) => write!(f, "path:{number}"),
            Source::Claim(name) => write!(f, "jwt:{name}"),
            Source::Descriptor(name) => write!(f, "descriptor:{name}"),
            Source::Literal(text) => write!(f, "literal:{text}"),
        }
    }
}
