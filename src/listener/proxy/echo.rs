//! `builtin:echo`: the upstream that needs no upstream.
//!
//! It answers 200 and says what it was asked, so that a newcomer sees limits
//! work before anything else is installed, and an operator sees what a policy
//! would see. Bodies are not echoed.

use std::net::IpAddr;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use http::request::Parts;
use serde_json::{Map, Value, json};

use super::body::ResponseBody;

/// Values that are for the upstream only, and not for whoever reads a screen.
const SECRET: [header::HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Says what was asked, as JSON. `path` is the normalised one.
pub fn reply(head: &Parts, path: &str, peer: IpAddr) -> Response<ResponseBody> {
    let mut fields = Map::new();
    for name in head.headers.keys() {
        let text = if SECRET.contains(name) {
            "(not shown)".to_owned()
        } else {
            let lines = head.headers.get_all(name).iter();
            let lines: Vec<_> =
                lines.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            lines.join(", ")
        };
        fields.insert(name.as_str().to_owned(), Value::String(text));
    }
    let body = json!({
        "message": "admitted by weir; this is its builtin:echo upstream",
        "method": head.method.as_str(),
        "path": path,
        "query": head.uri.query(),
        "from": peer.to_string(),
        "headers": fields,
    });
    let mut text = format!("{body:#}");
    text.push('\n');
    let mut response = Response::new(ResponseBody::whole(Bytes::from(text)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
