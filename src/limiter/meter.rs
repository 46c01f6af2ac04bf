//! Meters: read from a response what a request has used.
//!
//! A meter sees the head, each piece of the body, and the trailers, and keeps no
//! more of them than it needs: a whole JSON body up to [`BODY_MAX_BYTES`], or one
//! line of a stream of events. What it cannot read, such as a compressed body,
//! leaves the estimate in force.

use serde_json::Value as Json;

use crate::policy::{Headers, Measure, Settle};

/// A JSON body that is larger is not read.
const BODY_MAX_BYTES: usize = 4 << 20;

/// A line of a stream of events that is longer is skipped.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Reads one response for one policy.
#[derive(Debug)]
pub(super) struct Meter {
    settle: Settle,
    form: Form,
    buffer: Vec<u8>,
    raw: Option<u64>,
    /// The response is of a status that costs nothing.
    is_free: bool,
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Of no interest, or not to be read.
    Opaque,
    /// Counted.
    Bytes,
    /// One JSON text.
    Json,
    /// Server-sent events.
    Events,
}

impl Meter {
    pub(super) fn new(settle: &Settle) -> Meter {
        Meter {
            settle: settle.clone(),
            form: Form::Opaque,
            buffer: Vec::new(),
            raw: None,
            is_free: false,
        }
    }

    /// The head of the response has come.
    pub(super) fn head(&mut self, status: u16, headers: &dyn Headers) {
        let counted = &self.settle.when_status;
        self.is_free = !counted.is_empty() && !counted.contains(&status);
        match &self.settle.from {
            None | Some(Measure::Trailer(_)) => {}
            Some(Measure::Header(name)) => self.raw = number(headers.get(name)),
            Some(Measure::BodyBytes) => {
                self.form = Form::Bytes;
                self.raw = Some(0);
            }
            Some(Measure::Json(_)) if headers.get("content-encoding").is_some() => {}
            Some(Measure::Json(_)) => {
                let media_type = headers.get("content-type").unwrap_or_default();
                let is_events = media_type.starts_with(b"text/event-stream");
                self.form = if is_events { Form::Events } else { Form::Json };
            }
        }
    }

    /// A piece of the body has come.
    pub(super) fn data(&mut self, data: &[u8]) {
        match self.form {
            Form::Opaque => {}
            Form::Bytes => self.raw = self.raw.map(|raw| raw + data.len() as u64),
            Form::Json if self.buffer.len() + data.len() > BODY_MAX_BYTES => {
                self.form = Form::Opaque;
                self.buffer = Vec::new();
            }
            Form::Json => self.buffer.extend_from_slice(data),
            Form::Events => {
                for piece in data.split_inclusive(|byte| *byte == b'\n') {
                    if self.buffer.len() + piece.len() <= LINE_MAX_BYTES {
                        self.buffer.extend_from_slice(piece);
                    }
                    if piece.ends_with(b"\n") {
                        self.end_line();
                    }
                }
            }
        }
    }

    /// The trailers have come.
    pub(super) fn trailers(&mut self, trailers: &dyn Headers) {
        if let Some(Measure::Trailer(name)) = &self.settle.from {
            self.raw = number(trailers.get(name));
        }
    }

    /// A line of a stream of events is whole.
    fn end_line(&mut self) {
        if let Some(json) = self.buffer.strip_prefix(b"data:")
            && let Some(found) = self.find(json)
        {
            self.raw = Some(found);
        }
        self.buffer.clear();
    }

    /// The units that the request has used: `estimate`, if the response did not
    /// say.
    pub(super) fn units(&mut self, estimate: u64) -> u64 {
        match self.form {
            Form::Json => self.raw = self.find(&self.buffer),
            Form::Events => self.end_line(),
            Form::Opaque | Form::Bytes => {}
        }
        if self.is_free {
            return 0;
        }
        self.raw.map_or(estimate, |raw| self.settle.units(raw))
    }

    fn find(&self, text: &[u8]) -> Option<u64> {
        let Some(Measure::Json(path)) = &self.settle.from else { return None };
        let json: Json = serde_json::from_slice(text).ok()?;
        path.iter().try_fold(&json, |json, name| json.get(&**name))?.as_u64()
    }
}

fn number(field: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(field?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Pairs<'a>(&'a [(&'a str, &'a str)]);

    impl Headers for Pairs<'_> {
        fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
            self.0.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_bytes())
        }
    }

    /// What a response of these pieces costs, when the estimate was 100.
    fn units(from: Option<Measure>, status: u16, head: &[(&str, &str)], pieces: &[&str]) -> u64 {
        let settle = Settle {
            from,
            per: 1,
            max: 1_000,
            when_status: vec![200, 401],
            reserve: Duration::from_secs(60),
        };
        let mut meter = Meter::new(&settle);
        meter.head(status, &Pairs(head));
        pieces.iter().for_each(|piece| meter.data(piece.as_bytes()));
        meter.trailers(&Pairs(&[("x-used", "9")]));
        meter.units(100)
    }

    #[test]
    fn a_response_says_what_was_used_where_it_is_looked_for() {
        let tokens = || Some(Measure::Json(vec!["usage".into(), "total".into()]));
        let events = &[("content-type", "text/event-stream; charset=utf-8")];
        let zipped = &[("content-encoding", "gzip")];
        type Case<'c> = (Option<Measure>, u16, &'c [(&'c str, &'c str)], &'c [&'c str], u64);
        let cases: &[Case<'_>] = &[
            (None, 200, &[], &["x"], 100),
            (None, 401, &[], &["x"], 100),
            (None, 302, &[], &["x"], 0),
            (Some(Measure::Header("x-used".into())), 200, &[("x-used", "7")], &[], 7),
            (Some(Measure::Header("x-used".into())), 200, &[("x-used", "some")], &[], 100),
            (Some(Measure::Header("x-used".into())), 200, &[("x-used", "5000")], &[], 1_000),
            (Some(Measure::Trailer("x-used".into())), 200, &[], &[], 9),
            (Some(Measure::BodyBytes), 200, &[], &["abc", "de"], 5),
            (tokens(), 200, &[], &["{\"usage\": {\"to", "tal\": 42}}"], 42),
            (tokens(), 500, &[], &["{\"usage\": {\"total\": 42}}"], 0),
            (tokens(), 200, &[], &["{\"usage\": {}}"], 100),
            (tokens(), 200, &[], &["not json"], 100),
            (tokens(), 200, zipped, &["{\"usage\": {\"total\": 42}}"], 100),
            (
                tokens(),
                200,
                events,
                &["data: {\"a\":1}\n\nda", "ta: {\"usage\":{\"total\":41}}\n\ndata: [DONE]\n\n"],
                41,
            ),
            (tokens(), 200, events, &["data: {\"usage\":{\"total\":40}}"], 40),
        ];
        for (from, status, head, pieces, expected) in cases {
            assert_eq!(
                units(from.clone(), *status, head, pieces),
                *expected,
                "{from:?} {pieces:?}"
            );
        }
    }
}
