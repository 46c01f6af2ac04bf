//! Heads of requests: what is refused, before anything else is done with them.
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

use http::header::{self, HeaderMap};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Version};

use super::errors::BadRequest;

/// Bytes of a request target, at most; more is 414.
pub const TARGET_SIZE_MAX: usize = 8 << 10;

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
}
