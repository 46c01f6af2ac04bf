//! What the proxy tells Prometheus: a field per family, a method per event.
//!
//! Every label comes from an enum here, so that no request can make a series.
//! All series exist from the start and are resolved once; the request path only
//! increments.

use http::StatusCode;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forwarded, and the upstream's response passed on.
    Forwarded,
    /// Answered by `builtin:echo`.
    Echoed,
    /// Refused by the limiter.
    Refused,
    /// Malformed or ambiguous.
    BadRequest,
    /// Admitted, and no route matches.
    NoRoute,
    /// Nobody accepted the connection.
    UpstreamUnreachable,
    /// The upstream did not accept or answer in time.
    UpstreamTimeout,
    /// The upstream closed the connection, or what it sent is no response.
    UpstreamFailed,
    /// The downstream left before it was answered.
    DownstreamGone,
}

impl Outcome {
    const ALL: [Outcome; 9] = [
        Outcome::Forwarded,
        Outcome::Echoed,
        Outcome::Refused,
        Outcome::BadRequest,
        Outcome::NoRoute,
        Outcome::UpstreamUnreachable,
        Outcome::UpstreamTimeout,
        Outcome::UpstreamFailed,
        Outcome::DownstreamGone,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Forwarded => "forwarded",
            Outcome::Echoed => "echoed",
            Outcome::Refused => "refused",
            Outcome::BadRequest => "bad_request",
            Outcome::NoRoute => "no_route",
            Outcome::UpstreamUnreachable => "upstream_unreachable",
            Outcome::UpstreamTimeout => "upstream_timeout",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::DownstreamGone => "downstream_gone",
        }
    }
}

/// Values of the label `class`; a status outside counts as the last.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The proxy's metrics, registered.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: [IntCounter; Outcome::ALL.len()],
    responses: [IntCounter; CLASSES.len()],
    duration: Histogram,
    /// Connections from downstreams that are open now.
    pub connections: IntGauge,
    /// Connections closed because a phase took too long.
    pub timeouts: IntCounter,
    /// Connections closed because of their PROXY header.
    pub protocol_errors: IntCounter,
    /// Connections made to upstreams.
    pub upstream_connects: IntCounter,
    /// Exchanges over a connection that had served one before.
    pub upstream_reuses: IntCounter,
    /// Requests sent again because a reused connection had died.
    pub upstream_retries: IntCounter,
    /// Lines of the access log that could not be queued.
    pub access_lines_lost: IntCounter,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let requests = add(
            registry,
            IntCounterVec::new(
                Opts::new("weir_proxy_requests_total", "Requests by how they ended"),
                &["outcome"],
            )?,
        )?;
        let responses = add(
            registry,
            IntCounterVec::new(
                Opts::new("weir_proxy_responses_total", "Responses by class of their status"),
                &["class"],
            )?,
        )?;
        // 100 us to 10 s: below is noise, above is an outage.
        let buckets = vec![0.000_1, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];
        let duration = HistogramOpts::new(
            "weir_proxy_request_duration_seconds",
            "Time from the head of a request to the head of its response",
        );
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        Ok(Metrics {
            requests: Outcome::ALL.map(|outcome| requests.with_label_values(&[outcome.label()])),
            responses: CLASSES.map(|class| responses.with_label_values(&[class])),
            duration: add(registry, Histogram::with_opts(duration.buckets(buckets))?)?,
            connections: add(
                registry,
                IntGauge::new("weir_proxy_connections", "Open connections from downstreams")?,
            )?,
            timeouts: counter(
                "weir_proxy_connection_timeouts_total",
                "Connections from downstreams closed because they took too long",
            )?,
            protocol_errors: counter(
                "weir_proxy_protocol_errors_total",
                "Connections closed because their PROXY header was missing or malformed",
            )?,
            upstream_connects: counter(
                "weir_proxy_upstream_connects_total",
                "Connections made to upstreams",
            )?,
            upstream_reuses: counter(
                "weir_proxy_upstream_reuses_total",
                "Requests sent over a connection that was kept",
            )?,
            upstream_retries: counter(
                "weir_proxy_upstream_retries_total",
                "Requests sent again because a kept connection had died",
            )?,
            access_lines_lost: counter(
                "weir_proxy_access_lines_lost_total",
                "Lines of the access log that were lost: not read, or not written",
            )?,
        })
    }

    /// A request was answered with `status`.
    pub fn answered(&self, outcome: Outcome, status: StatusCode, seconds: f64) {
        self.requests[outcome as usize].inc();
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.responses[class - 1].inc();
        self.duration.observe(seconds);
    }

    /// What came is not a request; hyper answered with a 4xx and closed.
    pub fn unreadable(&self) {
        self.requests[Outcome::BadRequest as usize].inc();
        self.responses[3].inc();
    }

    /// The downstream left before it was answered.
    pub fn abandoned(&self) {
        self.requests[Outcome::DownstreamGone as usize].inc();
    }
}

/// Registers `collector` and gives it back.
fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_exists_before_the_first_request() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.answered(Outcome::Refused, StatusCode::TOO_MANY_REQUESTS, 0.000_2);
        metrics.abandoned();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for outcome in Outcome::ALL {
            let count = u8::from(matches!(outcome, Outcome::Refused | Outcome::DownstreamGone));
            let line =
                format!("weir_proxy_requests_total{{outcome=\"{}\"}} {count}", outcome.label());
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.contains("weir_proxy_responses_total{class=\"4xx\"} 1"));
        assert!(text.contains("weir_proxy_request_duration_seconds_count 1"));
    }

    #[test]
    fn the_order_of_outcomes_is_that_of_their_counters() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
