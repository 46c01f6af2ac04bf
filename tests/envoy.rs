//! The Envoy door as Envoy's filter sees it: over a socket, through the client
//! that envoy-types generates. The real Envoy is in `tests/peers`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::address::Address as Endpoint;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use prometheus::{Registry, TextEncoder};
use tonic::Code;
use tonic::transport::Channel;
use weir::base::clock::{Clock, Timestamp};
use weir::base::tasks::{Drained, Tasks};
use weir::limiter::{self, FailureMode, Limiter};
use weir::listener::accept::{self, Acceptor, Cap};
use weir::listener::envoy;
use weir::policy::client_address::Trust;
use weir::policy::{self, Functions};
use weir::store::{self, Embedded, Library, Store};

const POLICIES: &str = "
policies:
  - name: five
    match: { path: /limited/** }
    key: [client_ip]
    limits: [{ quota: 5, window: 10s }]
";

/// The door on a free port, over a store without a log whose clock a test moves.
struct Door {
    address: SocketAddr,
    clock: Clock,
    registry: Registry,
    tasks: Tasks,
}

impl Door {
    fn open() -> Door {
        let registry = Registry::new();
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
        let limiter = Arc::new(limiter(&registry, &clock));
        let any_port = "127.0.0.1:0".parse().unwrap();
        let mut bound = accept::bind("envoy", any_port, 1).unwrap();
        let cap = Cap::new(envoy::CONNECTION_COUNT_MAX);
        let acceptor = Acceptor::new("envoy", bound.sockets.remove(0), cap).unwrap();
        let metrics = envoy::Metrics::register(&registry).unwrap();
        let tasks = Tasks::default();
        let serving = tasks.clone();
        let trust = Trust::default();
        tasks.spawn("envoy", |_| envoy::serve(acceptor, limiter, trust, metrics, serving));
        Door { address: bound.address, clock, registry, tasks }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn client(&self) -> AuthorizationClient<Channel> {
        AuthorizationClient::new(self.channel().await)
    }

    fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

fn limiter(registry: &Registry, clock: &Clock) -> Limiter {
    let library = Library {
        origin: "limiter.lua".to_owned(),
        code: include_str!("../functions/limiter.lua").to_owned(),
    };
    let metrics = store::Metrics::register(registry).unwrap();
    let opened = Embedded::open(&[library], None, clock.clone(), metrics, &mut |_| {}).unwrap();
    let functions = Functions::new(opened.store.functions());
    let policies =
        policy::compile("policies.yaml", POLICIES, &functions, &|_| Err("no files".to_owned()))
            .unwrap();
    let metrics = limiter::Metrics::register(registry).unwrap();
    Limiter::new(Store::Embedded(opened.store), policies, FailureMode::Open, metrics)
}

fn check(client: &str, path: &str) -> CheckRequest {
    let socket = SocketAddress { address: client.to_owned(), ..Default::default() };
    let address = Address { address: Some(Endpoint::SocketAddress(socket)) };
    let http = HttpRequest {
        method: "GET".to_owned(),
        host: "example.com".to_owned(),
        path: path.to_owned(),
        headers: HashMap::new(),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer { address: Some(address), ..Default::default() }),
            request: Some(Request { http: Some(http), ..Default::default() }),
            ..Default::default()
        }),
    }
}

/// An answer in one line: gRPC code, HTTP status if refused, header fields.
fn told(answer: CheckResponse) -> String {
    let code = answer.status.unwrap().code;
    let (status, options) = match answer.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => (String::new(), ok.response_headers_to_add),
        HttpResponse::DeniedResponse(denied) => {
            (format!(" {}", denied.status.unwrap().code), denied.headers)
        }
        HttpResponse::ErrorResponse(_) => panic!("never sent"),
    };
    let fields = options.into_iter().filter_map(|option| option.header);
    let fields = fields.map(|field| format!(" | {}: {}", field.key, field.value));
    format!("{code}{status}{}", fields.collect::<String>())
}

#[tokio::test]
async fn five_are_admitted_the_sixth_is_refused_and_the_window_slides() {
    let door = Door::open();
    let mut client = door.client().await;
    let mut ask = async |from: &str, path: &str| {
        told(client.check(check(from, path)).await.unwrap().into_inner())
    };
    let policy = r#"ratelimit-policy: "five";q=5;w=10"#;
    for left in (0..5).rev() {
        let expected = format!("0 | {policy} | ratelimit: \"five\";r={left};t=10");
        assert_eq!(ask("10.0.0.1", "/limited/x?y").await, expected);
    }
    let refused = format!(
        "8 429 | {policy} | ratelimit: \"five\";r=0;t=10 | retry-after: 10 \
         | content-type: application/problem+json"
    );
    assert_eq!(ask("10.0.0.1", "//limited/%78").await, refused);
    assert!(ask("10.0.0.2", "/limited/x").await.starts_with("0 |"), "quotas are per client");
    assert_eq!(ask("10.0.0.1", "/free").await, "0");

    door.clock.advance(Duration::from_secs(10));
    assert!(ask("10.0.0.1", "/limited/x").await.starts_with("0 |"), "the window has slid");
}

#[tokio::test]
async fn what_cannot_be_decided_is_told_apart() {
    let door = Door::open();
    let mut client = door.client().await;
    let malformed = client.check(check("10.0.0.1", "/a%2fb")).await.unwrap().into_inner();
    let Some(HttpResponse::DeniedResponse(denied)) = &malformed.http_response else { panic!() };
    // As `tests/proxy.rs` has it.
    assert_eq!(
        denied.body,
        "{\"detail\":\"the path holds an encoded slash, backslash or control character (%2F)\",\
         \"status\":400,\"title\":\"Bad Request\",\"type\":\"about:blank\"}"
    );
    assert_eq!(told(malformed), "3 400 | content-type: application/problem+json");

    for invalid in [CheckRequest::default(), check("somewhere", "/")] {
        let status = client.check(invalid).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let metrics = door.metrics();
    for expected in [
        r#"weir_envoy_checks_total{outcome="malformed"} 1"#,
        r#"weir_envoy_checks_total{outcome="invalid"} 2"#,
        "weir_envoy_check_duration_seconds_count 3",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_check_that_is_too_large_is_refused_and_the_next_is_answered() {
    let door = Door::open();
    let mut client = door.client().await;
    let large = check("10.0.0.1", &format!("/{}", "x".repeat(2 << 20)));
    assert_eq!(client.check(large).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(told(client.check(check("10.0.0.1", "/")).await.unwrap().into_inner()), "0");
}

#[tokio::test]
async fn a_service_that_is_not_here_is_unimplemented() {
    let door = Door::open();
    let mut client = RateLimitServiceClient::new(door.channel().await);
    let status = client.should_rate_limit(RateLimitRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn concurrent_checks_never_admit_one_too_many() {
    let door = Door::open();
    let client = door.client().await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = client.clone();
        asked.spawn(async move {
            told(client.check(check("10.0.0.1", "/limited/x")).await.unwrap().into_inner())
        });
    }
    let answers = asked.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("0 |")).count(), 5);
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("8 429 |")).count(), 195);
}

#[tokio::test]
async fn draining_tells_connected_clients_and_ends() {
    let door = Door::open();
    let mut client = door.client().await;
    client.check(check("10.0.0.1", "/")).await.unwrap();
    let drained = door.tasks.drain(Duration::from_secs(5)).await;
    assert_eq!(drained, Drained::Clean, "an idle connection does not hold it up");
    assert_eq!(client.check(check("10.0.0.1", "/")).await.unwrap_err().code(), Code::Unavailable);
}
