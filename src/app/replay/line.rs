//! One line of an access log: which request was made, when, and by whom.
//!
//! Four forms are understood, and told apart line by line:
//!
//! ```text
//! Common    203.0.113.7 - ann [10/Oct/2025:13:55:36 -0700] "GET /x HTTP/1.1" 200 2326
//! Combined  … 200 2326 "https://referrer/" "agent/1.0"
//! Envoy     [2025-10-10T20:55:36.310Z] "GET /x HTTP/2" 200 - 0 226 100 98 "203.0.113.7"
//!           "agent/1.0" "request-id" "host" "10.0.2.1:80"
//! JSON      {"time":"…","client":"203.0.113.7","method":"GET","target":"/x", …}
//! ```
//!
//! JSON is what Weir itself writes, and what nginx, Envoy, Caddy and others write
//! when told to: [`json`](super::json) knows the usual names of the fields.
//!
//! Not here: whether a request concerns a policy, and its spelling of the path.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::fmt::strtime;

use crate::base::clock::Timestamp;
use crate::policy::Headers;

/// A request that was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// When, to the precision of the log.
    pub at: Timestamp,
    /// By whom.
    pub client: Option<IpAddr>,
    /// As written.
    pub method: String,
    /// Path and query, or an absolute URI.
    pub target: String,
    /// As written; empty if the log does not say.
    pub host: String,
    /// What the log says of the header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Of the response; `None` if the log does not say.
    pub status: Option<u16>,
    /// How long it was under way; `None` if the log does not say.
    pub duration: Option<Duration>,
}

impl Headers for Seen {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_bytes())
    }
}

/// Why a line is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// It has none of the four forms.
    #[error("not a line of an access log")]
    Form,
    /// There is no time, or none that can be read.
    #[error("no time that can be read")]
    Time,
    /// There is no client address, or none that can be read.
    #[error("no client address that can be read")]
    Client,
    /// There is no `METHOD target` in it.
    #[error("no request in it")]
    Request,
    /// It is JSON, but not an object.
    #[error("not a JSON object")]
    Json,
}

/// Reads a line.
///
/// # Errors
/// It is no request; see [`NotUnderstood`].
pub fn read(line: &str) -> Result<Seen, NotUnderstood> {
    let line = line.trim();
    match line.as_bytes().first() {
        Some(b'{') => super::json::read(line),
        Some(b'[') => envoy(line),
        Some(_) => common(line),
        None => Err(NotUnderstood::Form),
    }
}

/// Common and Combined.
fn common(line: &str) -> Result<Seen, NotUnderstood> {
    let (before, rest) = line.split_once(" [").ok_or(NotUnderstood::Form)?;
    let (time, rest) = rest.split_once(']').ok_or(NotUnderstood::Form)?;
    let first = before.split(' ').next().unwrap_or_default();
    let quoted: Vec<String> = quoted(rest).map(|(_, text)| text).collect();
    let mut seen = Seen { at: time_of(time)?, client: Some(client_of(first)?), ..Seen::default() };
    seen.set_request(quoted.first().ok_or(NotUnderstood::Request)?)?;
    seen.status = status_after_request(rest);
    if let [_, referrer, agent, ..] = quoted.as_slice() {
        seen.add_header("referer", referrer);
        seen.add_header("user-agent", agent);
    }
    Ok(seen)
}

/// Envoy's default form.
fn envoy(line: &str) -> Result<Seen, NotUnderstood> {
    let (time, rest) =
        line.strip_prefix('[').and_then(|it| it.split_once(']')).ok_or(NotUnderstood::Form)?;
    let quoted: Vec<(usize, String)> = quoted(rest).collect();
    let (_, request) = quoted.first().ok_or(NotUnderstood::Request)?;
    // Response flags' details and failure reasons may stand in quotes before:
    // the last five are always forwarded-for, agent, id, authority, upstream.
    let [.., (at, forwarded_for), (_, agent), (_, id), (_, authority), _upstream] = &quoted[..]
    else {
        return Err(NotUnderstood::Form);
    };
    let nearest = forwarded_for.rsplit(',').next().unwrap_or_default().trim();
    let mut seen =
        Seen { at: time_of(time)?, client: Some(client_of(nearest)?), ..Seen::default() };
    seen.set_request(request)?;
    seen.status = status_after_request(rest);
    // Behind bytes received and sent, and before the upstream's time.
    let duration = rest[..*at].split_whitespace().rev().nth(1).and_then(|it| it.parse().ok());
    seen.duration = duration.map(Duration::from_millis);
    seen.host = absent(authority).to_owned();
    for (name, value) in
        [("x-forwarded-for", forwarded_for), ("user-agent", agent), ("x-request-id", id)]
    {
        seen.add_header(name, value);
    }
    Ok(seen)
}

impl Seen {
    /// Takes method and target from `GET /x HTTP/1.1`.
    pub(super) fn set_request(&mut self, line: &str) -> Result<(), NotUnderstood> {
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next());
        let is_method = !method.is_empty() && method.bytes().all(|it| it.is_ascii_alphabetic());
        let target = target.filter(|it| is_method && !it.is_empty());
        self.target = target.ok_or(NotUnderstood::Request)?.to_owned();
        self.method = method.to_owned();
        Ok(())
    }

    /// Adds a header field, unless the log says that there was none.
    pub(super) fn add_header(&mut self, name: &str, value: &str) {
        if !absent(value).is_empty() {
            self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
}

/// Logs write `-` for what is not there.
fn absent(value: &str) -> &str {
    if value == "-" { "" } else { value }
}

/// The texts between quotes, and where the quotes begin. A quote inside one is written
/// `\"` or `\x22`.
fn quoted(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find('"')? + 1;
        let begins = text.len() - rest.len() + start - 1;
        let mut value = String::new();
        let mut letters = rest[start..].char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    rest = &rest[start + at + 1..];
                    return Some((begins, value));
                }
                '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
                _ => value.push(letter),
            }
        }
        None
    })
}

/// The status that stands behind the first quoted text, which is the request.
fn status_after_request(text: &str) -> Option<u16> {
    let mut is_escaped = false;
    let mut after_quote = text.split_once('"')?.1.char_indices().skip_while(|(_, letter)| {
        let is_end = *letter == '"' && !is_escaped;
        is_escaped = *letter == '\\' && !is_escaped;
        !is_end
    });
    let (end, _) = after_quote.next()?;
    let rest = &text.split_once('"')?.1[end + 1..];
    status_of(rest.split_whitespace().next()?)
}

/// A status; 0 is Envoy's for a response that was none.
pub(super) fn status_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (100..600).contains(status))
}

/// A time as logs write it: Common's, RFC 3339, or a number of seconds,
/// milliseconds or microseconds since 1970.
pub(super) fn time_of(text: &str) -> Result<Timestamp, NotUnderstood> {
    let micros = if let Ok(number) = text.parse::<f64>() {
        let to_micros = match number {
            1e14.. => 1.0,
            1e11.. => 1e3,
            _ => 1e6,
        };
        (number * to_micros).round() as i64
    } else if let Ok(time) = text.parse::<jiff::Timestamp>() {
        time.as_microsecond()
    } else {
        let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).and_then(|it| it.to_timestamp());
        time.map_err(|_error| NotUnderstood::Time)?.as_microsecond()
    };
    let micros = u64::try_from(micros).ok().filter(|it| *it > 0).ok_or(NotUnderstood::Time)?;
    Ok(Timestamp::from_micros(micros))
}

/// An address, with or without a port.
pub(super) fn client_of(text: &str) -> Result<IpAddr, NotUnderstood> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()))
        .map_err(|_| NotUnderstood::Client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        match read(line) {
            Err(error) => error.to_string(),
            Ok(seen) => {
                let client = seen.client.map_or("?".to_owned(), |it| it.to_string());
                let headers: Vec<String> =
                    seen.headers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                let status = seen.status.map_or("?".to_owned(), |it| it.to_string());
                let took = seen.duration.map_or(String::new(), |it| format!(" took {it:?}"));
                format!(
                    "{} {client} {} {} {} {status}{}{took}",
                    seen.at.micros(),
                    seen.method,
                    seen.target,
                    seen.host,
                    headers.concat()
                )
            }
        }
    }

    #[test]
    fn common_and_combined_lines_are_read() {
        assert_eq!(
            told(
                r#"203.0.113.7 - ann [10/Oct/2025:13:55:36 -0700] "GET /x?y=1 HTTP/1.1" 200 2326"#
            ),
            "1760129736000000 203.0.113.7 GET /x?y=1  200",
        );
        assert_eq!(
            told(
                r#"2001:db8::1 - - [10/Oct/2025:20:55:36 +0000] "POST /a HTTP/2.0" 429 0 "-" "curl/\"8\"""#
            ),
            "1760129736000000 2001:db8::1 POST /a  429 user-agent=curl/\"8\"",
        );
        assert_eq!(
            told(r#"::1 - - [10/Oct/2025:20:55:36 +0000] "GET /a\"\\ HTTP/1.1" - 0"#),
            "1760129736000000 ::1 GET /a\"\\  ?",
        );
    }

    #[test]
    fn the_default_lines_of_envoy_are_read() {
        assert_eq!(
            told(
                "[2025-10-10T20:55:36.310Z] \"GET /x HTTP/2\" 200 - 0 226 100 98 \
                 \"198.51.100.1,203.0.113.7\" \"agent/1\" \"cc21d9b0\" \"api.example.com\" \
                 \"10.0.2.1:80\""
            ),
            "1760129736310000 203.0.113.7 GET /x api.example.com 200 \
             x-forwarded-for=198.51.100.1,203.0.113.7 user-agent=agent/1 x-request-id=cc21d9b0 \
             took 100ms",
        );
        // Of a request that failed more is told, also in quotes.
        let failed = told(
            "[2025-10-10T20:55:36.310Z] \"GET /x HTTP/2\" 503 UF upstream_reset - \
             \"delayed 7 8\" 0 226 100 - \"203.0.113.7\" \"-\" \"-\" \"-\" \"-\"",
        );
        assert_eq!(
            failed,
            "1760129736310000 203.0.113.7 GET /x  503 \
                            x-forwarded-for=203.0.113.7 took 100ms"
        );
    }

    #[test]
    fn times_are_read_in_every_unit() {
        for text in [
            "1760129736",
            "1760129736.000",
            "1760129736000",
            "1760129736000000",
            "2025-10-10T20:55:36Z",
            "2025-10-10T22:55:36+02:00",
            "10/Oct/2025:13:55:36 -0700",
        ] {
            assert_eq!(time_of(text).map(Timestamp::micros), Ok(1_760_129_736_000_000), "{text}");
        }
        for text in ["", "-", "yesterday", "-5", "0", "nan"] {
            assert_eq!(time_of(text), Err(NotUnderstood::Time), "{text}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        for (line, why) in [
            ("", "not a line of an access log"),
            ("hello", "not a line of an access log"),
            (
                r#"host - - [10/Oct/2025:13:55:36 -0700] "GET / HTTP/1.1" 200 1"#,
                "no client address",
            ),
            (r#"203.0.113.7 - - [yesterday] "GET / HTTP/1.1" 200 1"#, "no time"),
            (r#"203.0.113.7 - - [10/Oct/2025:13:55:36 -0700] "-" 408 0"#, "no request"),
            (r#"203.0.113.7 - - [10/Oct/2025:13:55:36 -0700] "\x16\x03" 400 0"#, "no request"),
        ] {
            assert!(told(line).starts_with(why), "{line}: {}", told(line));
        }
    }
}
