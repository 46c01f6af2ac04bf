//! The head of a request, as an upstream gets it.
//!
//! First all goes that was for this connection or for us only, then ours comes:
//!
//! ```text
//! POST /a?b HTTP/1.1
//! host: shop.example                what was asked, or else the upstream's name
//! accept: */*                       what passes through
//! x-forwarded-for: 9.9.9.9, 10.0.0.1
//! x-forwarded-proto: http           these two as a trusted proxy has written them
//! x-forwarded-host: shop.example
//! via: 1.1 weir
//! content-length: 5                 or transfer-encoding: chunked
//! ```

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use smallvec::SmallVec;

use crate::policy::client_address::Field;

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

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLen {
    /// There is none.
    None,
    /// So many bytes.
    Known(u64),
    /// Its end will tell: it is sent in chunks.
    Unknown,
}

/// Writes the head of a checked request, with `target` in the place of its own.
///
/// `Forwarded` is left out and not written: of two ways to say who the client is an
/// upstream might believe the wrong one. Where it is the one we believe, its addresses
/// go on as `X-Forwarded-For`, and what came under that name does not.
/// `X-Forwarded-Proto` and `-Host` are ours, unless a proxy that is trusted has written
/// them: a stranger's are worth nothing.
pub fn write_head(
    out: &mut Vec<u8>,
    head: &Parts,
    target: &str,
    body: BodyLen,
    sender: &Sender,
    upstream: &Authority,
) {
    let fields = &head.headers;
    let is_http2 = head.version == Version::HTTP_2;
    write_line(out, &[head.method.as_str(), " ", target, " HTTP/1.1"]);
    let authority = head.uri.authority().unwrap_or(upstream).as_str();
    let host = fields.get(header::HOST).map_or(authority.as_bytes(), HeaderValue::as_bytes);
    write_field(out, "host", host);

    let named = named_by_connection(fields);
    let (mut proto, mut forwarded_host) = (false, false);
    for (name, value) in fields {
        match name.as_str() {
            // Of one connection only (RFC 9110, 7.6.1); `Trailer`, because trailers are
            // not passed on.
            "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer"
            | "transfer-encoding" | "upgrade" => continue,
            // For us only.
            "expect" | "proxy-authorization" | "forwarded" | "http2-settings" => continue,
            // Written anew.
            "host" | "content-length" | "x-forwarded-for" => continue,
            "cookie" if is_http2 => continue,
            "x-forwarded-proto" | "x-forwarded-host" if !sender.is_trusted => continue,
            "x-forwarded-proto" => proto = true,
            "x-forwarded-host" => forwarded_host = true,
            _ if named.contains(name) => continue,
            _ => {}
        }
        write_field(out, name.as_str(), value.as_bytes());
    }

    write_forwarded_for(out, fields, sender);
    if !proto {
        write_field(out, "x-forwarded-proto", b"http");
    }
    if !forwarded_host {
        write_field(out, "x-forwarded-host", host);
    }
    if is_http2 {
        write_cookies(out, fields);
    }
    write_field(out, "via", if is_http2 { b"2 weir" } else { b"1.1 weir" });
    match body {
        BodyLen::Unknown => write_field(out, "transfer-encoding", b"chunked"),
        BodyLen::Known(len) => write_length(out, len),
        BodyLen::None if fields.contains_key(header::CONTENT_LENGTH) => write_length(out, 0),
        BodyLen::None => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, len: u64) {
    write_field(out, "content-length", itoa::Buffer::new().format(len).as_bytes());
}

/// The fields that `Connection` says are for one connection only.
fn named_by_connection(fields: &HeaderMap) -> SmallVec<[HeaderName; 2]> {
    let lines = fields.get_all(header::CONNECTION).iter().filter_map(|it| it.to_str().ok());
    lines.flat_map(|names| names.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// What we know of the way that the request took, with the peer's address at the
/// end: all `X-Forwarded-For` lines in order, or the addresses of `Forwarded` as far
/// as they can be read.
fn write_forwarded_for(out: &mut Vec<u8>, fields: &HeaderMap, sender: &Sender) {
    let lines = fields.get_all(sender.field.name()).iter().map(HeaderValue::as_bytes);
    out.extend_from_slice(b"x-forwarded-for: ");
    match sender.field {
        Field::XForwardedFor => {
            for line in lines {
                out.extend_from_slice(line);
                out.extend_from_slice(b", ");
            }
        }
        Field::Forwarded => {
            let addresses = sender.field.from_right(lines).map_while(|address| address);
            let mut texts: Vec<String> = addresses.map(|it| format!("{it}, ")).collect();
            texts.reverse();
            out.extend_from_slice(texts.concat().as_bytes());
        }
    }
    out.extend_from_slice(sender.address.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// HTTP/2 may split `Cookie` into lines, HTTP/1 must not (RFC 9113, 8.2.3).
fn write_cookies(out: &mut Vec<u8>, fields: &HeaderMap) {
    let mut name: &[u8] = b"cookie: ";
    for crumb in fields.get_all(header::COOKIE) {
        out.extend_from_slice(name);
        out.extend_from_slice(crumb.as_bytes());
        name = b"; ";
    }
    if fields.contains_key(header::COOKIE) {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn written(lines: &[(&'static str, &'static str)], sender: &Sender) -> Vec<String> {
        let mut request = http::Request::get("http://site/x").version(Version::HTTP_2);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        let upstream = Authority::from_static("up:1");
        write_head(&mut out, &head, "/x", BodyLen::None, sender, &upstream);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_suffix("\r\n\r\n").unwrap();
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        assert_eq!(lines.remove(0), "GET /x HTTP/1.1");
        lines.sort();
        lines
    }

    fn sender(is_trusted: bool, field: Field) -> Sender {
        Sender { address: HeaderValue::from_static("10.0.0.9"), is_trusted, field }
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
        let sender = |is_trusted| sender(is_trusted, Field::XForwardedFor);
        assert_eq!(written(&said, &sender(false)), host("site", "http"));
        assert_eq!(written(&said, &sender(true)), host("shop", "https"));
        assert_eq!(written(&[], &sender(true)), host("site", "http"));
    }

    #[test]
    fn upstreams_are_told_of_clients_in_x_forwarded_for_whichever_field_we_believe() {
        let said = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=_hidden, for=1.2.3.4"),
            ("forwarded", "for=\"[2001:db8::1]:5\";proto=https"),
        ];
        let told = |field| {
            let lines = written(&said, &sender(true, field));
            assert!(!lines.iter().any(|line| line.starts_with("forwarded")), "{lines:?}");
            lines.into_iter().find(|line| line.starts_with("x-forwarded-for")).unwrap()
        };
        assert_eq!(told(Field::XForwardedFor), "x-forwarded-for: 6.6.6.6, 10.0.0.9");
        assert_eq!(told(Field::Forwarded), "x-forwarded-for: 1.2.3.4, 2001:db8::1, 10.0.0.9");
    }

    #[test]
    fn cookies_that_came_in_crumbs_are_joined() {
        let stranger = sender(false, Field::XForwardedFor);
        let lines = written(&[("cookie", "a=1"), ("cookie", "b=2")], &stranger);
        assert_eq!(lines[0], "cookie: a=1; b=2");
    }

    #[test]
    fn a_body_is_framed_in_one_way_whatever_was_written() {
        let stranger = sender(false, Field::XForwardedFor);
        let framing = |lines: &[(&str, &str)], body| {
            let mut request = http::Request::post("/x");
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let (mut out, upstream) = (Vec::new(), Authority::from_static("up:1"));
            write_head(&mut out, &head, "/x", body, &stranger, &upstream);
            let text = String::from_utf8(out).unwrap();
            let is_framing = |line: &&str| line.starts_with("content-") || line.starts_with("tran");
            text.lines().filter(is_framing).collect::<Vec<_>>().join(" ")
        };
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(framing(&chunked, BodyLen::Unknown), "transfer-encoding: chunked");
        assert_eq!(framing(&chunked, BodyLen::None), "");
        assert_eq!(framing(&[], BodyLen::None), "");
        assert_eq!(framing(&[], BodyLen::Known(5)), "content-length: 5");
        for lines in [&["010"][..], &["10", "10"], &["10, 10"], &["10"]] {
            let lines: Vec<_> = lines.iter().map(|line| ("content-length", *line)).collect();
            assert_eq!(framing(&lines, BodyLen::Known(10)), "content-length: 10");
            assert_eq!(framing(&lines, BodyLen::None), "content-length: 0");
        }
    }
}
