//! The head of a response, as a downstream gets it.
//!
//! What concerns one connection only is left out while the head is read. A response is
//! refused if it could be read as having two ends: the strictest of Envoy, HAProxy and
//! hyper is the bar, as it is for requests.

use std::mem::MaybeUninit;

use bytes::{Buf as _, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

use super::body::Framing;

/// Fields of a head, at most.
const FIELD_COUNT_MAX: usize = 100;

/// Bytes of a head, at most.
const SIZE_MAX: usize = 64 << 10;

/// Why a response cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// It is not HTTP/1.
    #[error("what came is no head of a response")]
    Syntax(#[from] httparse::Error),
    /// A name or a value is not one.
    #[error("a field of the response is malformed")]
    Field,
    /// More than anybody needs.
    #[error("the head of the response is too long")]
    Size,
    /// Two lengths, a length beside a coding, or a coding that is not `chunked`.
    #[error("where the body ends can be read in two ways, or in none")]
    Framing,
    /// 101, which nobody has asked for.
    #[error("the response changes the protocol")]
    Upgrade,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    /// Its status; never 1xx.
    pub status: StatusCode,
    /// What the status is called, if not as usual.
    pub reason: Option<ReasonPhrase>,
    /// What is passed on of its fields.
    pub fields: HeaderMap,
    /// How its body ends.
    pub framing: Framing,
    /// The connection may serve another exchange afterwards.
    pub persists: bool,
}

/// Takes the head of the response to a request of `method` from `bytes`, and what
/// precedes it: 1xx is for us. `None` while it is not whole. `fields` is empty and
/// becomes that of the head.
///
/// # Errors
/// What comes is not to be passed on, and the connection is of no more use.
pub fn take_head(
    bytes: &mut BytesMut,
    method: &Method,
    fields: &mut HeaderMap,
) -> Result<Option<Head>, BadResponse> {
    loop {
        let mut lines = [const { MaybeUninit::uninit() }; FIELD_COUNT_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines)?;
        let httparse::Status::Complete(len) = status else {
            return if bytes.len() < SIZE_MAX { Ok(None) } else { Err(BadResponse::Size) };
        };
        let code = StatusCode::from_u16(parsed.code.unwrap_or_default());
        let code = code.map_err(|_| BadResponse::Syntax(httparse::Error::Status))?;
        if code == StatusCode::SWITCHING_PROTOCOLS {
            return Err(BadResponse::Upgrade);
        }
        if !code.is_informational() {
            let head = read(&parsed, code, method, std::mem::take(fields))?;
            bytes.advance(len);
            return Ok(Some(head));
        }
        bytes.advance(len);
    }
}

fn read(
    parsed: &httparse::Response<'_, '_>,
    status: StatusCode,
    method: &Method,
    mut fields: HeaderMap,
) -> Result<Head, BadResponse> {
    let (mut connection, mut end) = (Connection::default(), End::default());
    fields.reserve(parsed.headers.len());
    for line in &*parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| BadResponse::Field)?;
        match name.as_str() {
            "connection" => connection.note(line.value),
            "transfer-encoding" => end.note_coding(line.value),
            "content-length" => end.note_length(line.value),
            // `Trailer`, because trailers are not passed on.
            "keep-alive" | "proxy-authenticate" | "proxy-connection" | "te" | "trailer"
            | "upgrade" => {}
            _ => {
                let value = HeaderValue::from_bytes(line.value);
                fields.append(name, value.map_err(|_| BadResponse::Field)?);
            }
        }
    }
    for name in &connection.named {
        fields.remove(name);
    }
    let is_http10 = parsed.version == Some(0);
    let framing = end.framing(is_http10)?;
    let never_has_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (Framing::Length(len), false) = (&framing, never_has_body) {
        // Also where the length is of the body that a GET would have got.
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(*len));
    }
    let is_empty = never_has_body || *method == Method::HEAD;
    let framing = if is_empty { Framing::Length(0) } else { framing };
    let reason = parsed.reason.filter(|it| Some(*it) != status.canonical_reason());
    let reason = reason.and_then(|it| ReasonPhrase::try_from(it.as_bytes()).ok());
    let is_kept = !connection.closes && (!is_http10 || connection.is_kept);
    let persists = is_kept && framing != Framing::ToTheEnd;
    Ok(Head { status, reason, fields, framing, persists })
}

/// What `Connection` says.
#[derive(Debug, Default)]
struct Connection {
    closes: bool,
    is_kept: bool,
    /// Fields that are for this connection only.
    named: SmallVec<[HeaderName; 2]>,
}

impl Connection {
    fn note(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.is_kept |= option.eq_ignore_ascii_case(b"keep-alive");
            self.named.extend(HeaderName::from_bytes(option));
        }
    }
}

/// What is said about the body's end.
#[derive(Debug, Default)]
struct End {
    /// There is a coding; true if it is a single `chunked`.
    coding: Option<bool>,
    /// There is a length; `Err` if it is not one number.
    length: Option<Result<u64, ()>>,
}

impl End {
    fn note_coding(&mut self, value: &[u8]) {
        self.coding = Some(self.coding.is_none() && value.eq_ignore_ascii_case(b"chunked"));
    }

    /// `5, 5` and two lines of `5` are one length, told twice.
    fn note_length(&mut self, value: &[u8]) {
        for text in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let number = number(text).ok_or(());
            let is_same = self.length.is_none_or(|told| told == number);
            self.length = Some(if is_same { number } else { Err(()) });
        }
    }

    fn framing(&self, is_http10: bool) -> Result<Framing, BadResponse> {
        match (self.coding, self.length) {
            (None, None) => Ok(Framing::ToTheEnd),
            (None, Some(Ok(len))) => Ok(Framing::Length(len)),
            (Some(true), None) if !is_http10 => Ok(Framing::CHUNKED),
            _ => Err(BadResponse::Framing),
        }
    }
}

/// Digits and nothing else, such as a sign.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a head: `status framing | fields`, and whether the connection
    /// persists.
    fn taken(text: &str, method: Method) -> Result<String, BadResponse> {
        let mut bytes = BytesMut::from(text);
        let Some(head) = take_head(&mut bytes, &method, &mut HeaderMap::new())? else {
            return Ok("more".to_owned());
        };
        let mut told = format!("{} {:?} |", head.status.as_u16(), head.framing);
        for (name, value) in &head.fields {
            told += &format!(" {name}: {}", value.to_str().unwrap());
        }
        if head.persists {
            told += " | persists";
        }
        Ok(told + &format!(" | {}", String::from_utf8_lossy(&bytes)))
    }

    #[track_caller]
    fn check(lines: &str, expected: Result<&str, BadResponse>) {
        let text = format!("{}\r\n\r\nrest", lines.replace('\n', "\r\n"));
        assert_eq!(
            taken(&text, Method::GET).as_deref(),
            expected.as_ref().map(|it| &**it),
            "{text}"
        );
    }

    #[test]
    fn a_body_has_one_end_or_the_response_is_refused() {
        let ok = "HTTP/1.1 200 OK\n";
        for (lines, framing) in [
            ("Content-Length: 5", "Length(5) | content-length: 5 | persists"),
            ("Content-Length: 05", "Length(5) | content-length: 5 | persists"),
            ("Content-Length: 5, 5\nContent-Length: 5", "Length(5) | content-length: 5 | persists"),
            ("Transfer-Encoding: Chunked", "Chunked(Size) | | persists"),
            ("A: b", "ToTheEnd | a: b"),
        ] {
            check(&format!("{ok}{lines}"), Ok(&format!("200 {framing} | rest")));
        }
        for lines in [
            "Content-Length: 5\nContent-Length: 6",
            "Content-Length: 6, 5",
            "Content-Length: ",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 5 5",
            "Content-Length: 0x5",
            "Content-Length: 18446744073709551616",
            "Content-Length: 5\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: ",
        ] {
            check(&format!("{ok}{lines}"), Err(BadResponse::Framing));
        }
        let old = "HTTP/1.0 200 OK\nTransfer-Encoding: chunked";
        check(old, Err(BadResponse::Framing));
    }

    #[test]
    fn what_has_no_body_keeps_its_length_only_where_it_is_that_of_a_get() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let told = taken(head, Method::HEAD).unwrap();
        assert_eq!(told, "200 Length(0) | content-length: 5 | persists | ");
        check(
            "HTTP/1.1 204 No Content\nContent-Length: 5",
            Ok("204 Length(0) | | persists | rest"),
        );
        check(
            "HTTP/1.1 304 Not Modified\nContent-Length: 5",
            Ok("304 Length(0) | | persists | rest"),
        );
    }

    #[test]
    fn what_is_for_one_connection_is_not_passed_on() {
        let fields = "X: 1\nKeep-Alive: 5\nConnection: x, keep-alive\nTrailer: y\nUpgrade: z\nTE: a\n\
                      Proxy-Authenticate: b\nContent-Length: 0\nY: 2";
        let expected = "200 Length(0) | y: 2 content-length: 0 | persists | rest";
        check(&format!("HTTP/1.1 200 OK\n{fields}"), Ok(expected));
    }

    #[test]
    fn a_connection_persists_as_its_version_and_options_say() {
        for (version, option, persists) in [
            ("1.1", "x", true),
            ("1.1", "Close", false),
            ("1.1", "keep-alive, close", false),
            ("1.0", "x", false),
            ("1.0", "Keep-Alive", true),
            ("1.0", "close, keep-alive", false),
        ] {
            let lines = format!("HTTP/{version} 200 OK\nConnection: {option}\nContent-Length: 0");
            let persists = if persists { " | persists" } else { "" };
            check(&lines, Ok(&format!("200 Length(0) | content-length: 0{persists} | rest")));
        }
    }

    #[test]
    fn what_precedes_the_head_is_for_us() {
        check(
            "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early\nLink: x\n\nHTTP/1.1 200 OK\nA: b",
            Ok("200 ToTheEnd | a: b | rest"),
        );
        check("HTTP/1.1 101 X\nUpgrade: x", Err(BadResponse::Upgrade));
    }

    #[test]
    fn a_head_comes_whole_or_not_at_all() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n";
        for len in 0..text.len() {
            assert_eq!(taken(&text[..len], Method::GET).as_deref(), Ok("more"), "{len}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(SIZE_MAX));
        assert_eq!(taken(&endless, Method::GET), Err(BadResponse::Size));
        let many = "A: b\n".repeat(FIELD_COUNT_MAX + 1);
        let too_many = BadResponse::Syntax(httparse::Error::TooManyHeaders);
        check(&format!("HTTP/1.1 200 OK\n{}", many.trim_end()), Err(too_many));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for text in ["SSH-2.0-x", "HTTP/2 200 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 OK"] {
            assert!(taken(&format!("{text}\r\n\r\n"), Method::GET).is_err(), "{text}");
        }
        for field in ["A : b", "A: b\r\n c: d", ": b", "A\u{e9}: b", "A: \u{1}"] {
            let text = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n");
            assert!(taken(&text, Method::GET).is_err(), "{text:?}");
        }
    }
}
