//! Questions: a request that nobody sends, to be explained.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Headers, RequestFacts, host, path};

/// A request in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `POST /api/x?y=z`, or a path alone.
    pub request: String,
    /// `Name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Whom it comes from.
    #[serde(default = "this_machine")]
    pub from: IpAddr,
}

fn this_machine() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// Header fields by lower-case name.
struct Fields(Vec<(String, String)>);

impl Headers for Fields {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_bytes())
    }
}

/// A question, taken apart; the facts borrow from it.
pub struct Asked {
    method: String,
    host: String,
    path: String,
    query: String,
    client: IpAddr,
    fields: Fields,
}

impl Question {
    /// Takes the question apart.
    ///
    /// # Errors
    /// Its path has no single meaning.
    pub fn read(&self) -> Result<Asked, path::PathError> {
        let (method, target) = self.request.split_once(' ').unwrap_or(("GET", &self.request));
        let (written_path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        let fields = Fields(self.headers.iter().filter_map(pair).collect());
        let asked = fields.get("host").and_then(|it| std::str::from_utf8(it).ok());
        Ok(Asked {
            method: method.to_owned(),
            host: host::normalise(asked.unwrap_or_default()).into_owned(),
            path: path::normalise(written_path)?.into_owned(),
            query: query.to_owned(),
            client: self.from,
            fields,
        })
    }
}

impl Asked {
    /// The facts, as policies take them.
    pub fn facts(&self) -> RequestFacts<'_> {
        let length = self.fields.get("content-length");
        let length = length.and_then(|it| std::str::from_utf8(it).ok());
        RequestFacts {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            client: self.client,
            headers: &self.fields,
            body_bytes: length.and_then(|it| it.parse().ok()),
            descriptors: &[],
        }
    }
}
