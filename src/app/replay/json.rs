//! Lines of JSON, whoever wrote them.
//!
//! There is no standard, so each fact is looked for under the names that Weir,
//! nginx, Envoy, Caddy, Traefik and Apache users give it, in lower case and with
//! `-` as `_`. An object named `request` (Caddy) is looked into as well, and a
//! request line (`GET /x HTTP/1.1`) will do for method and target.

use std::time::Duration;

use serde_json::{Map, Value};

use super::line::{NotUnderstood, Seen, client_of, status_of, time_of};

const TIME: &[&str] =
    &["time", "timestamp", "@timestamp", "ts", "time_iso8601", "time_local", "start_time", "msec"];
const CLIENT: &[&str] = &[
    "client",
    "client_ip",
    "clientip",
    "remote_ip",
    "remote_addr",
    "clienthost",
    "clientaddr",
    "downstream_remote_address_without_port",
    "downstream_remote_address",
    "peer",
];
const METHOD: &[&str] = &["method", "request_method", "requestmethod", "verb"];
const TARGET: &[&str] =
    &["target", "request_uri", "uri", "requestpath", "path", "url", "x_envoy_original_path"];
const HOST: &[&str] =
    &["host", "authority", "http_host", "requesthost", "vhost", "server_name", "request_host"];
const STATUS: &[&str] =
    &["status", "response_code", "status_code", "response_status", "downstreamstatus"];
/// How long a request took, under names that say in which unit, in seconds.
const DURATIONS: &[(&str, f64)] =
    &[("duration_us", 1e-6), ("duration_ms", 1e-3), ("request_time", 1.0)];
const LINE: &[&str] = &["request", "request_line"];
const HEADERS: &[&str] = &["headers", "request_headers"];

/// Reads a line of JSON.
pub(super) fn read(line: &str) -> Result<Seen, NotUnderstood> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|_error| NotUnderstood::Json)?;
    let mut facts = Facts::default();
    facts.add(&object);
    let mut seen = Seen {
        at: time_of(&facts.text(TIME).ok_or(NotUnderstood::Time)?)?,
        client: Some(client_of(&facts.text(CLIENT).ok_or(NotUnderstood::Client)?)?),
        host: facts.text(HOST).unwrap_or_default(),
        status: facts.text(STATUS).and_then(|text| status_of(&text)),
        duration: facts.duration(),
        ..Seen::default()
    };
    match (facts.text(METHOD), facts.text(TARGET), facts.text(LINE)) {
        (Some(method), Some(target), _) => seen.set_request(&format!("{method} {target}"))?,
        (_, _, Some(line)) => seen.set_request(&line)?,
        _ => return Err(NotUnderstood::Request),
    }
    for (name, value) in &facts.headers {
        seen.add_header(name, value);
    }
    Ok(seen)
}

/// Every value of the object and of the objects that matter in it.
#[derive(Default)]
struct Facts<'a> {
    values: Vec<(String, &'a Value)>,
    /// The request has an object of its own, as Caddy gives it one.
    is_nested: bool,
    headers: Vec<(String, String)>,
}

impl<'a> Facts<'a> {
    fn add(&mut self, object: &'a Map<String, Value>) {
        for (name, value) in object {
            let name = name.to_ascii_lowercase().replace('-', "_");
            match value {
                Value::Object(fields) if HEADERS.contains(&name.as_str()) => {
                    for (name, value) in fields {
                        self.headers.extend(text_of(value).map(|text| (name.clone(), text)));
                    }
                }
                Value::Object(inner) if name == "request" => {
                    self.is_nested = true;
                    self.add(inner);
                }
                _ => {
                    // What nginx calls a header field: `http_x_plan`.
                    if let Some(field) = name.strip_prefix("http_")
                        && let Some(text) = text_of(value)
                    {
                        self.headers.push((field.replace('_', "-"), text));
                    }
                    self.values.push((name, value));
                }
            }
        }
    }

    /// How long the request took. What is called `duration` is in milliseconds for Envoy,
    /// in seconds for Caddy, in nanoseconds for Traefik.
    fn duration(&self) -> Option<Duration> {
        let is_traefik = self.text(&["downstreamstatus"]).is_some();
        let unit = if is_traefik { 1e-9 } else { [1e-3, 1.0][usize::from(self.is_nested)] };
        let of_many = ("duration", unit);
        let named = DURATIONS.iter().chain([&of_many]);
        let seconds =
            |(name, unit): &(&str, f64)| Some(self.text(&[name])?.parse::<f64>().ok()? * unit);
        Duration::try_from_secs_f64(named.filter_map(seconds).next()?).ok()
    }

    /// The first of the names that has a text or a number.
    fn text(&self, names: &[&str]) -> Option<String> {
        let values = |name: &&str| {
            let of_name = self.values.iter().filter(move |(known, _)| known == name);
            of_name
                .filter_map(|(_, value)| text_of(value))
                .find(|text| !matches!(&**text, "" | "-"))
        };
        names.iter().find_map(values)
    }
}

/// A text, a number as written, or the first of a list of them.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(values) => values.first().and_then(text_of),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        match read(line) {
            Err(error) => error.to_string(),
            Ok(seen) => {
                let client = seen.client.map_or("?".to_owned(), |it| it.to_string());
                let (at, method, target, host) =
                    (seen.at.micros(), &seen.method, &seen.target, &seen.host);
                format!("{at} {client} {method} {target} {host} {:?}", seen.headers)
            }
        }
    }

    #[test]
    fn lines_of_weir_nginx_envoy_and_caddy_are_read() {
        let expected = "1760129736500000 203.0.113.7 GET /x?y=1 example.com";
        for line in [
            r#"{"time":"1760129736.500000","client":"203.0.113.7","method":"GET","target":"/x?y=1","host":"example.com","outcome":"forwarded","status":200}"#,
            r#"{"time_iso8601":"2025-10-10T20:55:36.5Z","remote_addr":"203.0.113.7","request":"GET /x?y=1 HTTP/1.1","host":"example.com"}"#,
            r#"{"start_time":"2025-10-10T20:55:36.500Z","downstream_remote_address":"203.0.113.7:4711","method":"GET","path":"/x?y=1","authority":"example.com","response_code":200}"#,
            r#"{"ts":1760129736.5,"request":{"remote_ip":"203.0.113.7","method":"GET","uri":"/x?y=1","host":"example.com","headers":{}}}"#,
        ] {
            assert!(told(line).starts_with(expected), "{line}\n{}", told(line));
        }
    }

    #[test]
    fn how_long_a_request_took_is_told_in_the_unit_of_whoever_tells_it() {
        let own = r#""ts":1760129736,"client":"203.0.113.7""#;
        let plain = format!(r#"{own},"method":"GET","target":"/""#);
        for (line, expected) in [
            (format!(r#"{{{plain},"duration_us":1500000}}"#), Some(1_500)),
            (format!(r#"{{{plain},"request_time":"1.500"}}"#), Some(1_500)),
            (format!(r#"{{{plain},"start_time":"1760129736","duration":1500}}"#), Some(1_500)),
            (format!(r#"{{{plain},"DownstreamStatus":200,"Duration":1500000000}}"#), Some(1_500)),
            (
                format!(r#"{{{own},"request":{{"method":"GET","uri":"/"}},"duration":1.5}}"#),
                Some(1_500),
            ),
            (format!(r#"{{{plain},"duration":"-"}}"#), None),
            (format!(r#"{{{plain},"duration":-5}}"#), None),
            (format!("{{{plain}}}"), None),
        ] {
            let took = read(&line).unwrap().duration.map(|it| it.as_millis());
            assert_eq!(took, expected, "{line}");
        }
    }

    #[test]
    fn header_fields_are_found_where_they_are_logged() {
        let line = r#"{"ts":1760129736,"client":"::1","method":"GET","target":"/",
            "request_headers":{"X-Plan":["free"]},"http_x_tenant":"t1"}"#;
        let seen = read(&line.replace('\n', "")).unwrap();
        for (name, value) in [("x-plan", "free"), ("x-tenant", "t1")] {
            let field = seen.headers.iter().find(|(known, _)| known == name);
            assert_eq!(field.map(|(_, value)| value.as_str()), Some(value), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (line, why) in [
            ("{", "not a JSON object"),
            ("{}", "no time that can be read"),
            (r#"{"ts":1760129736}"#, "no client address that can be read"),
            (r#"{"ts":1760129736,"client":"::1"}"#, "no request in it"),
            (r#"{"ts":1760129736,"client":"::1","method":"-","target":"/"}"#, "no request in it"),
        ] {
            assert_eq!(told(line), why, "{line}");
        }
    }
}
