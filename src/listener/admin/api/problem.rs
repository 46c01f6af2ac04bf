//! Refusals of the API, as problems (RFC 9457): what is wrong, and what would be right.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::base::chain::Chain;
use crate::base::problems::Problems;
use crate::limiter::{self, ChangeError, PROBLEM_TYPE};
use crate::listener::problem::problem;
use crate::policy::{GrantError, KeyError};
use crate::store;

/// Why a request is not answered.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// Places in the body, and what is wrong there.
    fields: Vec<(String, String)>,
    header: Option<(&'static str, &'static str)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), fields: Vec::new(), header: None }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn forbidden(detail: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn loading() -> Problem {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the state is being loaded; /readyz says when",
        )
    }

    pub(super) fn unauthorized() -> Problem {
        let detail = "show the token of admin.token_file: `Authorization: Bearer TOKEN`";
        let header = Some(("www-authenticate", "Bearer realm=\"weir admin\""));
        Problem { header, ..Problem::new(StatusCode::UNAUTHORIZED, detail) }
    }

    pub(super) fn method(allowed: &'static str) -> Problem {
        let header = Some(("allow", allowed));
        let detail = format!("only {allowed}");
        Problem { header, ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    pub(super) fn not_json() -> Problem {
        let detail = "the body must be JSON, and say so: `Content-Type: application/json`";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(super) fn too_large(size_max: usize) -> Problem {
        let detail = format!("the body breaks off, or is larger than {size_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    fn wrong(problems: &Problems) -> Problem {
        let fields = problems.iter().map(|it| (it.path.clone(), it.message.clone())).collect();
        Problem { fields, ..Problem::bad(problems.to_string()) }
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(path, message)| json!({ "path": path, "message": message }))
            .collect();
        let mut body = problem(self.status, &self.detail);
        if !fields.is_empty() {
            body["problems"] = fields.into();
        }
        let mut response = super::super::response(self.status, PROBLEM_TYPE, body.to_string());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Problem {
        match error {
            GrantError::UnknownPolicy { .. } => Problem::not_found(error.to_string()),
            GrantError::Wrong(problems) => Problem::wrong(&problems),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        let message = error.to_string();
        let fields = vec![("key".to_owned(), message.clone())];
        Problem { fields, ..Problem::bad(format!("the key {message}")) }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Problem {
        match error {
            ChangeError::Wrong(wrong) => wrong.into(),
            ChangeError::Full => Problem::new(StatusCode::CONFLICT, error.to_string()),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Problem {
        let detail = format!("the store does not answer: {}", Chain(&error));
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<limiter::Error> for Problem {
    fn from(error: limiter::Error) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Chain(&error).to_string())
    }
}
