//! Heads: what is refused, and what is changed before a head is passed on.
//!
//! hyper's parser is strict about bytes but not about meaning: it accepts a
//! request without `Host`, with two, with a `Host` that disagrees with its
//! target. Whatever a second server could read differently is refused here, so
//! that what was matched by policies is what the upstream sees. In doubt the
//! bar is the strictest of Envoy, HAProxy and hyper.
//!
//! Two vectors cannot be seen from here, because hyper resolves them before we are
//! called, both in a way that leaves one reading:
//!
//! - `Content-Length` beside `Transfer-Encoding`: the length is dropped. The
//!   message is chunked, goes on with our own framing, and the downstream's
//!   connection is closed behind it, which is what RFC 9112, 6.3 asks for.
//! - A fragment (`/a#b`) is cut off; what is left is matched and forwarded.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, StatusCode, Version};

use crate::policy::client_address::Field;

use super::errors::BadRequest;

/// Bytes of a request target, at most; more is 414.
pub const TARGET_SIZE_MAX: usize = 8 << 10;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields of one connection only, in either direction (RFC 9110, 7.6.1).
/// `Trailer` is among them because trailers are not passed on.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that `Connection` must not name: we, the policies or the upstream
/// rely on them.
const PROTECTED: [&str; 12] = [
    "authorization",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Checks all of a request's head but its path.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(head: &Parts) -> Result<(), BadRequest> {
    check_method(&head.method)?;
    check_target(head)?;
    check_host(head)?;
    check_framing(&head.headers)?;
    check_connection(&head.headers)?;
    check_expectation(&head.headers)
}

fn check_method(method: &Method) -> Result<(), BadRequest> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(BadRequest::Method);
    }
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(BadRequest::MethodCase);
    }
    Ok(())
}

fn check_target(head: &Parts) -> Result<(), BadRequest> {
    let Some(target) = head.uri.path_and_query() else { return Err(BadRequest::Target) };
    let target = target.as_str();
    if target.len() > TARGET_SIZE_MAX {
        return Err(BadRequest::TargetSize);
    }
    if target == "*" {
        let asked = head.method == Method::OPTIONS;
        return Err(if asked { BadRequest::Asterisk } else { BadRequest::Target });
    }
    let is_http = match head.uri.scheme() {
        None => head.uri.authority().is_none(),
        Some(scheme) => *scheme == Scheme::HTTP || head.version == Version::HTTP_2,
    };
    let is_visible = target.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_http || !is_visible || !target.starts_with('/') {
        return Err(BadRequest::Target);
    }
    Ok(())
}

/// Exactly one host, whether the target, the `Host` field or both name it.
fn check_host(head: &Parts) -> Result<(), BadRequest> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(BadRequest::HostCount);
    }
    let authority = head.uri.authority().map(Authority::as_str);
    let field = match field {
        Some(value) => Some(value.to_str().map_err(|_| BadRequest::Host)?),
        None => None,
    };
    // HTTP/1.0 knew no Host field.
    if field.or(authority).is_none() && head.version != Version::HTTP_10 {
        return Err(BadRequest::HostCount);
    }
    let parse = |text| Host::parse(text).ok_or(BadRequest::Host);
    let (field, authority) = (field.map(parse).transpose()?, authority.map(parse).transpose()?);
    match (field, authority) {
        (Some(field), Some(authority)) if !field.is_same(authority) => {
            Err(BadRequest::HostMismatch)
        }
        _ => Ok(()),
    }
}

fn check_framing(fields: &HeaderMap) -> Result<(), BadRequest> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(BadRequest::TransferEncoding),
    }
}

fn check_connection(fields: &HeaderMap) -> Result<(), BadRequest> {
    for value in fields.get_all(header::CONNECTION) {
        let names = value.to_str().map_err(|_| BadRequest::Connection)?;
        for name in names.split(',').map(str::trim) {
            if PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected)) {
                return Err(BadRequest::Connection);
            }
        }
    }
    Ok(())
}

fn check_expectation(fields: &HeaderMap) -> Result<(), BadRequest> {
    let mut expectations = fields.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(BadRequest::Expectation),
    }
}

/// A host as `Host` and `:authority` write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// A name without its trailing dot, an IPv4 address, or an IPv6 address in
    /// brackets; in the case it was written in.
    pub name: &'a str,
    /// 80 when left out.
    pub port: u16,
}

impl<'a> Host<'a> {
    /// Reads `name`, `name:port`, `[address]` or `[address]:port`. Nothing else:
    /// no user, no spaces, no characters that a name does not have.
    pub fn parse(text: &'a str) -> Option<Host<'a>> {
        let name_len = if text.starts_with('[') {
            text.find(']')? + 1
        } else {
            text.find(':').unwrap_or(text.len())
        };
        let (name, rest) = text.split_at(name_len);
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => 80,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            _ => return None,
        };
        if let Some(address) = name.strip_prefix('[') {
            address.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok()?;
            return Some(Host { name, port });
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        (!name.is_empty() && name.bytes().all(is_name)).then_some(Host { name, port })
    }

    fn is_same(self, other: Host<'_>) -> bool {
        self.port == other.port && self.name.eq_ignore_ascii_case(other.name)
    }
}

/// Removes the fields that concern one connection only, those that `Connection`
/// names included.
fn strip_hop_by_hop(fields: &mut HeaderMap) {
    if fields.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = fields
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|names| names.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            fields.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
}

/// Who sends a request, for the fields that say so.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The peer's address, ready for `X-Forwarded-For`.
    pub address: HeaderValue,
    /// It is a proxy of ours: what it says about the client's connection holds.
    pub is_trusted: bool,
    /// The field in which proxies of ours say who the client is.
    pub field: Field,
}

/// Makes the fields of a checked request ready for an upstream: first all that
/// was for us only goes, then ours come.
///
/// `Forwarded` is removed and not written: of two ways to say who the client is
/// an upstream might believe the wrong one. Where it is the one we believe, its
/// addresses go on as `X-Forwarded-For`, and what came under that name does not.
/// `X-Forwarded-Proto` and `-Host` are replaced, unless by a proxy that is trusted: a
/// stranger's are worth nothing.
pub fn prepare_request(head: &mut Parts, sender: &Sender, upstream: &Authority) {
    let host = head.headers.get(header::HOST).cloned().or_else(|| {
        let authority = head.uri.authority().unwrap_or(upstream);
        HeaderValue::from_str(authority.as_str()).ok()
    });
    let via = if head.version == Version::HTTP_2 { "2 weir" } else { "1.1 weir" };
    let fields = &mut head.headers;
    strip_hop_by_hop(fields);
    let forwarded_for = forwarded_for(fields, sender);
    for name in [header::EXPECT, header::PROXY_AUTHORIZATION, FORWARDED, HTTP2_SETTINGS] {
        fields.remove(name);
    }
    fields.insert(X_FORWARDED_FOR, forwarded_for);
    if !(sender.is_trusted && fields.contains_key(X_FORWARDED_PROTO)) {
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let Some(host) = host {
        if !(sender.is_trusted && fields.contains_key(X_FORWARDED_HOST)) {
            fields.insert(X_FORWARDED_HOST, host.clone());
        }
        fields.insert(header::HOST, host);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(fields);
    }
    fields.append(header::VIA, HeaderValue::from_static(via));
}

/// HTTP/2 may split `Cookie` into lines, HTTP/1 must not (RFC 9113, 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if joined.len() > first.len()
        && let Ok(joined) = HeaderValue::from_bytes(&joined)
    {
        fields.insert(header::COOKIE, joined);
    }
}

/// What we know of the way that the request took, with the peer's address at the
/// end: all `X-Forwarded-For` lines in order, or the addresses of `Forwarded` as far
/// as they can be read.
fn forwarded_for(fields: &HeaderMap, sender: &Sender) -> HeaderValue {
    let lines = fields.get_all(sender.field.name()).iter().map(HeaderValue::as_bytes);
    let mut joined = Vec::new();
    match sender.field {
        Field::XForwardedFor => {
            for line in lines {
                joined.extend_from_slice(line);
                joined.extend_from_slice(b", ");
            }
        }
        Field::Forwarded => {
            let addresses = sender.field.from_right(lines).map_while(|address| address);
            let mut texts: Vec<String> = addresses.map(|it| format!("{it}, ")).collect();
            texts.reverse();
            joined.extend_from_slice(texts.concat().as_bytes());
        }
    }
    if joined.is_empty() {
        return sender.address.clone();
    }
    joined.extend_from_slice(sender.address.as_bytes());
    HeaderValue::from_bytes(&joined).unwrap_or_else(|_| sender.address.clone())
}

/// Makes the fields of an upstream's response ready for the downstream.
/// `body_size` is the size of the body as hyper reads it, `None` when only its
/// end will tell. False when the response must not be passed on, because it
/// frames its body in two ways or in one that we cannot read.
#[must_use]
pub fn prepare_response(
    method: &Method,
    status: StatusCode,
    fields: &mut HeaderMap,
    body_size: Option<u64>,
) -> bool {
    let is_coded = fields.contains_key(header::TRANSFER_ENCODING);
    if is_coded && (check_framing(fields).is_err() || fields.contains_key(header::CONTENT_LENGTH)) {
        return false;
    }
    strip_hop_by_hop(fields);
    fields.remove(header::PROXY_AUTHENTICATE);
    match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
            fields.remove(header::CONTENT_LENGTH);
        }
        // Here the length is of the body that a GET would have got.
        _ if *method == Method::HEAD => {
            let Some(size) = fields.get(header::CONTENT_LENGTH).map(parse_length) else {
                fields.append(header::VIA, HeaderValue::from_static("1.1 weir"));
                return true;
            };
            if size.is_none() {
                return false;
            }
            keep_one_length(fields, size);
        }
        _ => keep_one_length(fields, body_size),
    }
    fields.append(header::VIA, HeaderValue::from_static("1.1 weir"));
    true
}

fn parse_length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Writes `Content-Length`, if there is one, as a plain number on one line:
/// `010` and `5, 5` are read in one way by hyper, which has checked them, but
/// not by everyone.
pub fn keep_one_length(fields: &mut HeaderMap, size: Option<u64>) {
    let (Some(size), Some(written)) = (size, fields.get(header::CONTENT_LENGTH)) else { return };
    let mut digits = itoa::Buffer::new();
    let is_canonical = written.as_bytes() == digits.format(size).as_bytes();
    if !is_canonical || fields.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for (text, name, port) in [
            ("a", "a", 80),
            ("A.example.", "A.example", 80),
            ("a-b_c~1:8080", "a-b_c~1", 8080),
            ("127.0.0.1:0", "127.0.0.1", 0),
            ("[::1]", "[::1]", 80),
            ("[2001:db8::1]:81", "[2001:db8::1]", 81),
        ] {
            assert_eq!(Host::parse(text), Some(Host { name, port }), "{text}");
        }
        for text in [
            "", ".", ":80", "a:", "a:b", "a:+1", "a:65536", "a:1:2", "a b", "a/b", "a@b", "a,b",
            "a%41", "::1", "[::1", "[::1]a", "[a]", "[::1]:", "\u{e9}",
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    #[track_caller]
    fn prepared(lines: &[(&'static str, &'static str)], is_trusted: bool) -> Vec<String> {
        prepared_by(lines, is_trusted, Field::XForwardedFor)
    }

    #[track_caller]
    fn prepared_by(
        lines: &[(&'static str, &'static str)],
        is_trusted: bool,
        field: Field,
    ) -> Vec<String> {
        let mut request = http::Request::get("http://site/x").version(Version::HTTP_2);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let sender = Sender { address: HeaderValue::from_static("10.0.0.9"), is_trusted, field };
        prepare_request(&mut head, &sender, &Authority::from_static("up:1"));
        let mut lines: Vec<String> = head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_stranger_cannot_say_which_scheme_and_host_were_asked_but_a_trusted_proxy_can() {
        let said = [("x-forwarded-proto", "https"), ("x-forwarded-host", "shop")];
        let host = |host: &str, proto: &str| {
            vec![
                "host: site".to_owned(),
                "via: 2 weir".to_owned(),
                "x-forwarded-for: 10.0.0.9".to_owned(),
                format!("x-forwarded-host: {host}"),
                format!("x-forwarded-proto: {proto}"),
            ]
        };
        assert_eq!(prepared(&said, false), host("site", "http"));
        assert_eq!(prepared(&said, true), host("shop", "https"));
        assert_eq!(prepared(&[], true), host("site", "http"));
    }

    #[test]
    fn upstreams_are_told_of_clients_in_x_forwarded_for_whichever_field_we_believe() {
        let said = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=_hidden, for=1.2.3.4"),
            ("forwarded", "for=\"[2001:db8::1]:5\";proto=https"),
        ];
        let told = |field| {
            let lines = prepared_by(&said, true, field);
            assert!(!lines.iter().any(|line| line.starts_with("forwarded")), "{lines:?}");
            lines.into_iter().find(|line| line.starts_with("x-forwarded-for")).unwrap()
        };
        assert_eq!(told(Field::XForwardedFor), "x-forwarded-for: 6.6.6.6, 10.0.0.9");
        assert_eq!(told(Field::Forwarded), "x-forwarded-for: 1.2.3.4, 2001:db8::1, 10.0.0.9");
    }

    #[test]
    fn cookies_that_came_in_crumbs_are_joined() {
        let lines = prepared(&[("cookie", "a=1"), ("cookie", "b=2")], false);
        assert_eq!(lines[0], "cookie: a=1; b=2");
    }

    #[test]
    fn a_length_is_passed_on_as_one_plain_number() {
        for lines in [&["010"][..], &["10", "10"], &["10, 10"], &["10"]] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(header::CONTENT_LENGTH, line.parse().unwrap());
            }
            keep_one_length(&mut fields, Some(10));
            let left: Vec<_> = fields.get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(left, ["10"], "{lines:?}");
        }
    }
}
