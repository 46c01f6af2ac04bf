//! Explanations: what a set makes of one request, policy by policy, for people and
//! for programs.
//!
//! Not here: what is left of a quota, which only the store knows. Whoever asks it
//! writes it into [`ExplainedLimit::left`].

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Algorithm, Cause, Entry, Mode, Plan, PolicySet, RequestFacts, Role};
use crate::base::units::Span;

/// What one policy makes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub policy: String,
    /// The policy in one line.
    pub about: String,
    /// It only counts.
    pub shadow: bool,
    /// What it makes of it.
    #[serde(flatten)]
    pub made: Made,
}

/// What a policy makes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Made {
    /// The policy does not concern it.
    Unmatched {
        /// Why.
        why: String,
    },
    /// It is denied without asking a limit.
    Denied {
        /// Why.
        why: String,
    },
    /// The policy concerns it and does not limit it.
    Unlimited {
        /// Why.
        why: String,
    },
    /// It is limited.
    Limited {
        /// Whose quota it uses, as it is counted under.
        key: String,
        /// Where its limits come from.
        by: Origin,
        /// The limits.
        limits: Vec<ExplainedLimit>,
    },
}

/// Where limits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The policy itself.
    Policy,
    /// A tier, an override of the file, or the overflow of a budget of keys.
    File,
    /// An override that was set at run time.
    Grant,
}

/// One limit of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    /// As in header fields.
    pub name: String,
    /// In words: `10 per 1s`.
    pub about: String,
    /// Who decides.
    pub algorithm: String,
    /// Units that a window allows.
    pub quota: u64,
    /// The window.
    pub window_ms: u64,
    /// Units that the request uses.
    pub cost: u64,
    /// Tried beside the live limit.
    pub candidate: bool,
    /// Where it is counted.
    pub store_key: String,
    /// What is left now; `None` where nobody was asked, or a Function of the user's
    /// decides, which cannot be asked without being charged.
    pub left: Option<Left>,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The request would be admitted.
    pub admits: bool,
    /// Units.
    pub remaining: u64,
    /// Until there is more.
    pub reset_after_ms: u64,
    /// Until the request would be admitted; `None` if waiting does not help.
    pub retry_after_ms: Option<u64>,
}

impl PolicySet {
    /// What every policy makes of a request, of which `plan` is the plan.
    pub fn explain(&self, facts: &RequestFacts<'_>, plan: &Plan) -> Vec<Explained> {
        let of_policy = |place: usize| -> Explained {
            let policy = &self.policies[place];
            match policy.conditions.why_not(facts) {
                Some(why) => self.explained(place, Made::Unmatched { why: why.to_string() }),
                None => self.explain_planned(place as u32, plan),
            }
        };
        (0..self.policies.len()).map(of_policy).collect()
    }

    /// What a policy makes of what was planned.
    pub fn explain_planned(&self, place: u32, plan: &Plan) -> Explained {
        let entries: Vec<&Entry> = plan.entries().iter().filter(|it| it.policy == place).collect();
        let denial = plan.denying().iter().find(|it| it.policy == place);
        let made = match (denial, entries.first()) {
            (Some(denial), _) => Made::Denied {
                why: match denial.cause {
                    Cause::MissingKey => "a part of the key is missing",
                    Cause::Listed => "a list or an override says so",
                }
                .to_owned(),
            },
            (None, None) => Made::Unlimited {
                why: "a list or an override says so, or the key is missing".to_owned(),
            },
            (None, Some(first)) => Made::Limited {
                key: String::from_utf8_lossy(plan.partition(first)).into_owned(),
                by: self.origin(first),
                limits: entries.iter().map(|entry| self.explain_limit(entry, plan)).collect(),
            },
        };
        self.explained(place as usize, made)
    }

    fn explained(&self, place: usize, made: Made) -> Explained {
        let policy = &self.policies[place];
        let shadow = policy.mode == Mode::Shadow;
        Explained { policy: policy.name.to_string(), about: policy.describe(), shadow, made }
    }

    fn origin(&self, entry: &Entry) -> Origin {
        let policy = &self.policies[entry.policy as usize];
        match entry.limit as usize {
            own if own < policy.own_limits().len() => Origin::Policy,
            written if written < policy.limits.len() => Origin::File,
            _ => Origin::Grant,
        }
    }

    fn explain_limit(&self, entry: &Entry, plan: &Plan) -> ExplainedLimit {
        let limit = self.limit(entry);
        ExplainedLimit {
            name: limit.name().to_owned(),
            about: limit.to_string(),
            algorithm: limit.algorithm().name().to_owned(),
            quota: limit.quota(),
            window_ms: limit.window().as_millis() as u64,
            cost: entry.cost,
            candidate: limit.role() == Role::Candidate,
            store_key: String::from_utf8_lossy(plan.key(entry)).into_owned(),
            left: None,
        }
    }
}

/// Explanations as text. `asked`: the store was asked what is left.
pub fn text(explained: &[Explained], asked: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for Explained { about, made, .. } in explained {
        let _ = writeln!(text, "{about}");
        match made {
            Made::Unmatched { why } => {
                let _ = writeln!(text, "  unmatched  {why}");
            }
            Made::Denied { why } => {
                let _ = writeln!(text, "  denied     {why}");
            }
            Made::Unlimited { why } => {
                let _ = writeln!(text, "  unlimited  {why}");
            }
            Made::Limited { key, by, limits } => {
                let by = match by {
                    Origin::Policy => "",
                    Origin::File => "  by a tier or an override",
                    Origin::Grant => "  by an override that was set at run time",
                };
                let _ = writeln!(text, "  key        {key}{by}");
                limits.iter().for_each(|limit| write_limit(&mut text, limit, asked));
            }
        }
    }
    if !asked {
        let _ =
            writeln!(text, "what is left was not asked for; `--admin URL` asks a Weir that runs");
    }
    text
}

fn write_limit(text: &mut String, limit: &ExplainedLimit, asked: bool) {
    let ExplainedLimit { about, store_key, cost, .. } = limit;
    let candidate = if limit.candidate { ", a candidate" } else { "" };
    let cost = if *cost == 1 { String::new() } else { format!(", costs {cost}") };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  limit      {about}{cost}{candidate}  {store_key}");
    if asked {
        let _ = writeln!(text, "  left       {}", left(limit));
    }
}

/// What is left of a limit, in words.
fn left(limit: &ExplainedLimit) -> String {
    let Some(Left { admits, remaining, reset_after_ms, retry_after_ms }) = limit.left else {
        return format!("not known: only {} could tell", limit.algorithm);
    };
    let span = |ms: u64| Span(Duration::from_millis(ms));
    let is_ban = limit.algorithm == Algorithm::Penalty.name();
    match (admits, retry_after_ms) {
        (true, _) if is_ban => format!("{remaining} more refusals until a ban"),
        (true, _) if reset_after_ms == 0 => remaining.to_string(),
        (true, _) => format!("{remaining}, more in {}", span(reset_after_ms)),
        (false, Some(wait)) if is_ban => format!("banned for {}", span(wait)),
        (false, Some(0)) => format!("{remaining}, refused until a lease comes back"),
        (false, Some(wait)) => format!("{remaining}, refused for {}", span(wait)),
        (false, None) => format!("{remaining}, refused for ever: it costs more than the quota"),
    }
}
