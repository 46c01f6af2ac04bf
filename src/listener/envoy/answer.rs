//! From a decision to the `CheckResponse` that makes Envoy act on it.
//!
//! Envoy takes any status but OK for a denial; the code only shows in its logs
//! and traces, so it is the one whose gRPC meaning fits: `RESOURCE_EXHAUSTED`
//! for an exceeded quota, `UNAVAILABLE` when the store cannot answer,
//! `INVALID_ARGUMENT` for a request without a meaning. The downstream sees the
//! HTTP status of `denied_response`; without one it would be a 403.
//!
//! A refusal is always `denied_response`, never `error_response`: the latter is
//! subject to the filter's `failure_mode_allow`, and a failure mode that a policy
//! closed must not be opened elsewhere.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::google::rpc;
use tonic::Code;

use crate::limiter::{Decision, Fields, PROBLEM_TYPE, Refusal};

/// The answer to a check that was decided.
pub(super) fn decided(decision: &Decision) -> CheckResponse {
    let mut fields = Vec::new();
    if let Some(told) = &decision.fields {
        push_quota(&mut fields, told);
    }
    match &decision.refusal {
        None => admitted(fields),
        Some(refusal) => refused(refusal, fields),
    }
}

/// The answer to a request whose path has no single meaning: a 400 for the
/// downstream, as the proxy would say.
pub(super) fn malformed(why: &str) -> CheckResponse {
    let problem = serde_json::json!({ "title": "Bad request", "status": 400, "detail": why });
    let fields = vec![field("content-type", PROBLEM_TYPE.to_owned())];
    denied(Code::InvalidArgument, "malformed request", 400, fields, problem.to_string())
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

fn refused(refusal: &Refusal, mut fields: Vec<HeaderValueOption>) -> CheckResponse {
    let (code, message) = match refusal.status {
        503 => (Code::Unavailable, "limits cannot be checked"),
        _ => (Code::ResourceExhausted, "quota exceeded"),
    };
    fields.push(field("content-type", PROBLEM_TYPE.to_owned()));
    if let Some(seconds) = refusal.retry_after_seconds {
        fields.push(field("retry-after", seconds.to_string()));
    }
    denied(code, message, refusal.status, fields, text(&refusal.problem))
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

fn push_quota(out: &mut Vec<HeaderValueOption>, fields: &Fields) {
    out.push(field("ratelimit-policy", text(&fields.rate_limit_policy)));
    if !fields.rate_limit.is_empty() {
        out.push(field("ratelimit", text(&fields.rate_limit)));
    }
}

/// A header field that takes the place of one that is there. On a refusal that
/// is the `content-type` of Envoy's own reply; on an admitted response, quota
/// fields of the upstream, which the proxy replaces too.
fn field(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

/// Field values are visible ASCII and bodies JSON, so nothing is lost here.
fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
