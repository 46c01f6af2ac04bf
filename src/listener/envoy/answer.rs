//! From a decision to the `CheckResponse` that makes Envoy act on it.
//!
//! Envoy takes any status but OK for a denial; the code only shows in its logs
//! and traces, so it is the one whose gRPC meaning fits: `RESOURCE_EXHAUSTED`
//! for an exceeded quota, `UNAVAILABLE` when the store cannot answer,
//! `INVALID_ARGUMENT` for a request without a meaning. The downstream sees the
//! HTTP status of `denied_response`; without one it would be a 403.
//!
//! Envoy makes a gRPC answer of that when the request is a gRPC call: it would say
//! `UNAVAILABLE`, which asks the caller to try again at once, with the body as
//! message. So a gRPC call is given its `grpc-status` and a plain sentence.
//!
//! A refusal is always `denied_response`, never `error_response`: the latter is
//! subject to the filter's `failure_mode_allow`, and a failure mode that a policy
//! closed must not be opened elsewhere.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use http::StatusCode;
use tonic::Code;

use crate::limiter::{Decision, Fields, PROBLEM_TYPE, Refusal};
use crate::listener::problem::problem;

/// The answer to a check that was decided. `is_grpc`: it is about a gRPC call.
pub(super) fn decided(decision: &Decision, is_grpc: bool) -> CheckResponse {
    let quota = decision.fields.as_ref().map(quota_fields).unwrap_or_default();
    match &decision.refusal {
        None => admitted(quota),
        Some(refusal) => refused(refusal, quota, is_grpc),
    }
}

/// The answer to a request whose path has no single meaning: a 400 for the
/// downstream, as the proxy would say.
pub(super) fn malformed(why: &str) -> CheckResponse {
    let problem = problem(StatusCode::BAD_REQUEST, why).to_string();
    let fields = vec![field("content-type", PROBLEM_TYPE.to_owned())];
    denied(Code::InvalidArgument, "malformed request", 400, fields, problem)
}

fn admitted(response_headers_to_add: Vec<HeaderValueOption>) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..rpc::Status::default() }),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            response_headers_to_add,
            ..OkHttpResponse::default()
        })),
        dynamic_metadata: None,
    }
}

fn refused(refusal: &Refusal, mut fields: Vec<HeaderValueOption>, is_grpc: bool) -> CheckResponse {
    let (code, message) = match refusal.status {
        503 => (Code::Unavailable, "limits cannot be checked"),
        _ => (Code::ResourceExhausted, "quota exceeded"),
    };
    if let Some(seconds) = refusal.retry_after_seconds {
        fields.push(field("retry-after", seconds.to_string()));
    }
    fields.extend(refusal.headers.iter().map(|(name, value)| field(name, value.to_string())));
    let body = if is_grpc {
        fields.push(field("grpc-status", i32::from(code).to_string()));
        message.to_owned()
    } else {
        fields.push(field("content-type", refusal.content_type.to_string()));
        text(&refusal.body)
    };
    denied(code, message, refusal.status, fields, body)
}

fn denied(
    code: Code,
    message: &str,
    status: u16,
    headers: Vec<HeaderValueOption>,
    body: String,
) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            message: message.to_owned(),
            details: Vec::new(),
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: i32::from(status) }),
            headers,
            body,
        })),
        dynamic_metadata: None,
    }
}

/// The RateLimit fields. An upstream's own stay, ours follow: both are lists, and
/// a downstream is bound by the limits of both.
fn quota_fields(fields: &Fields) -> Vec<HeaderValueOption> {
    fields
        .iter()
        .map(|(name, value)| option(name, text(value), HeaderAppendAction::AppendIfExistsOrAdd))
        .collect()
}

/// A header field that takes the place of one that Envoy's own reply has, such
/// as `content-type`.
fn field(name: &str, value: String) -> HeaderValueOption {
    option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

fn option(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}

/// Field values are visible ASCII and bodies JSON, so nothing is lost here.
fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use crate::limiter::Verdict;

    use super::*;

    fn fields() -> Fields {
        [
            ("ratelimit-policy", Bytes::from_static(br#""five";q=5;w=10"#)),
            ("ratelimit", Bytes::from_static(br#""five";r=0;t=8"#)),
        ]
        .into_iter()
        .collect()
    }

    fn refusal(status: u16) -> Decision {
        let refusal = Refusal {
            status,
            retry_after_seconds: (status == 429).then_some(8),
            headers: Vec::new(),
            content_type: PROBLEM_TYPE.into(),
            body: Bytes::from_static(b"{}"),
        };
        let fields = (status == 429).then(fields);
        Decision { verdict: Verdict::Deny, fields, refusal: Some(Box::new(refusal)), dues: None }
    }

    fn lines(options: &[HeaderValueOption]) -> Vec<String> {
        let headers = options.iter().filter_map(|option| option.header.as_ref());
        headers.map(|header| format!("{}: {}", header.key, header.value)).collect()
    }

    #[test]
    fn an_admitted_request_carries_the_fields_to_its_response() {
        let decision =
            Decision { verdict: Verdict::Admit, fields: Some(fields()), refusal: None, dues: None };
        let answer = decided(&decision, false);
        assert_eq!(answer.status.unwrap().code, 0);
        let Some(HttpResponse::OkResponse(ok)) = answer.http_response else { panic!("not ok") };
        assert_eq!(
            lines(&ok.response_headers_to_add),
            [r#"ratelimit-policy: "five";q=5;w=10"#, r#"ratelimit: "five";r=0;t=8"#]
        );
        assert!(ok.headers.is_empty(), "nothing is added to the request");
    }

    #[test]
    fn a_request_without_limits_is_admitted_without_fields() {
        let answer = decided(&Decision::UNLIMITED, false);
        assert_eq!(answer.status.unwrap().code, 0);
        let Some(HttpResponse::OkResponse(ok)) = answer.http_response else { panic!("not ok") };
        assert_eq!(ok, OkHttpResponse::default());
    }

    #[test]
    fn a_refusal_says_what_the_proxy_would_say() {
        for (status, code, expected) in [
            (
                429,
                Code::ResourceExhausted,
                &[
                    r#"ratelimit-policy: "five";q=5;w=10"#,
                    r#"ratelimit: "five";r=0;t=8"#,
                    "retry-after: 8",
                    "content-type: application/problem+json",
                ][..],
            ),
            (503, Code::Unavailable, &["content-type: application/problem+json"][..]),
        ] {
            let answer = decided(&refusal(status), false);
            assert_eq!(answer.status.unwrap().code, i32::from(code));
            let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
                panic!("not denied")
            };
            assert_eq!(denied.status.unwrap().code, i32::from(status));
            assert_eq!(lines(&denied.headers), expected);
            assert_eq!(denied.body, "{}");
        }
    }

    #[test]
    fn a_grpc_call_is_refused_in_grpcs_own_terms() {
        for (status, grpc_status, message) in [
            (429, "grpc-status: 8", "quota exceeded"),
            (503, "grpc-status: 14", "limits cannot be checked"),
        ] {
            let answer = decided(&refusal(status), true);
            let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
                panic!("not denied")
            };
            assert_eq!(denied.body, message);
            let lines = lines(&denied.headers);
            assert!(lines.iter().any(|line| line == grpc_status), "{lines:?}");
            assert!(!lines.iter().any(|line| line.starts_with("content-type")), "{lines:?}");
        }
    }

    #[test]
    fn a_malformed_request_is_refused_with_400() {
        let answer = malformed("the path holds a backslash");
        assert_eq!(answer.status.unwrap().code, i32::from(Code::InvalidArgument));
        let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
            panic!("not denied")
        };
        assert_eq!(denied.status.unwrap().code, 400);
        assert!(denied.body.contains("the path holds a backslash"), "{}", denied.body);
    }
}
