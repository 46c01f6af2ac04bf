//! `weir explain`: what the policies make of one request, without sending it.
//!
//! Not here: what is left of a quota. That is the running process' to say; its
//! answers carry it in their header fields.

use crate::base::clock::Clock;
use crate::policy::{Plan, PolicySet, Question, explanation};

use super::Error;

pub(super) fn explain(set: &PolicySet, question: &Question) -> Result<String, Error> {
    let asked = question.read().map_err(Error::Question)?;
    let mut plan = Plan::default();
    set.plan(&asked.facts(), Some(Clock::system().now()), &mut plan);
    Ok(explanation(&set.explain(&asked.facts(), &plan), true).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Functions, compile};

    #[test]
    fn each_policy_says_what_it_makes_of_a_request() {
        let text = "
policies:
  - name: api
    match: { path: /api/**, method: POST }
    key: [client_ip, header:x-tenant]
    cost: 2
    limits: [{ quota: 10, window: 1s }, { quota: 100, window: 1h, algorithm: token_bucket }]
  - { name: other, match: { path: /other }, limits: [{ quota: 1, window: 1s }] }
  - name: staff
    key: client_ip
    overrides: [{ key: [10.0.0.0/8], unlimited: true }]
    limits: [{ quota: 1, window: 1s }]
";
        let files = |_: &str| Err("no files".to_owned());
        let set = compile("p.yaml", text, &Functions::default(), &files).unwrap();
        let question = Question {
            request: "POST /api//x?y=z".to_owned(),
            headers: vec!["X-Tenant: acme".to_owned()],
            from: "10.0.0.1".parse().unwrap(),
        };
        let told = explain(&set, &question).unwrap();
        let expected = "\
api: 10 per 1s and 100 per 1h, 100 at once (token_bucket) by client_ip, header:x-tenant on POST /api/**
  key        10.0.0.1|acme
  limit      10 per 1s, costs 2  weir:api:0:{10.0.0.1|acme}
  limit      100 per 1h, 100 at once (token_bucket), costs 2  weir:api:1:{10.0.0.1|acme}
other: 1 per 1s all together on /other
  unmatched  the path /api/x is not /other
staff: 1 per 1s by client_ip on every request
  unlimited  a list or an override says so, or the key is missing";
        assert!(told == expected, "{told}");
    }
}
