//! The answers of the API, resource by resource.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value as Json, json};

use crate::base::clock::Timestamp;
use crate::limiter::{AfterBan, Ban, Granted, Limiter, Live, Standing};
use crate::policy::{Mode, NamedKey, Policy, Question, Role};

use super::problem::Problem;
use super::target::{Key, Resource, Target};

/// An answer, and the word for what was changed, if something was.
type Answer = Result<(Json, Option<&'static str>), Problem>;

pub(super) async fn answer(
    limiter: &Limiter,
    method: &Method,
    target: &Target,
    body: &str,
) -> Answer {
    let is_delete = *method == Method::DELETE;
    match &target.resource {
        Resource::Policies => Ok((policies(limiter), None)),
        Resource::Policy(name) => policy(limiter, name),
        Resource::Key(name, key) if is_delete => reset(limiter, name, key).await,
        Resource::Key(name, key) => look(limiter, name, key, target.word("tier")).await,
        Resource::NewOverride(name) => {
            let granted = limiter.grant(name, body).await?;
            Ok((override_json(&granted), Some("override_set")))
        }
        Resource::Override(id) if is_delete => {
            if !limiter.ungrant(id).await? {
                return Err(no_override(id));
            }
            Ok((json!({ "taken_back": id }), Some("override_taken_back")))
        }
        Resource::Override(id) => match limiter.granted(id) {
            Some(granted) => Ok((override_json(&granted), None)),
            None => Err(no_override(id)),
        },
        Resource::Overrides => overrides(limiter, target),
        Resource::Bans => bans(limiter, target).await,
        Resource::Ban(name, key) => pardon(limiter, name, key).await,
        Resource::Explain => explain(limiter, body).await,
    }
}

fn no_override(id: &str) -> Problem {
    Problem::not_found(format!("there is no override `{id}`; GET /api/v1/overrides names them"))
}

fn policies(limiter: &Limiter) -> Json {
    let live = limiter.live();
    let all: Vec<Json> = live.policies().policies().iter().map(policy_json).collect();
    json!({
        "generation": live.generation(),
        "stale_for_seconds": limiter.stale_for().map(|it| it.as_secs()),
        "policies": all,
    })
}

fn policy(limiter: &Limiter, name: &str) -> Answer {
    let live = limiter.live();
    let place = live.policies().find(name)?;
    Ok((policy_json(&live.policies().policies()[place as usize]), None))
}

fn policy_json(policy: &Policy) -> Json {
    let limits: Vec<Json> = policy
        .own_limits()
        .iter()
        .map(|limit| {
            json!({
                "name": limit.name(),
                "about": limit.to_string(),
                "algorithm": limit.algorithm().name(),
                "quota": limit.quota(),
                "window_ms": limit.window().as_millis() as u64,
                "candidate": limit.role() == Role::Candidate,
            })
        })
        .collect();
    json!({
        "name": policy.name(),
        "about": policy.describe(),
        "mode": if policy.mode() == Mode::Shadow { "shadow" } else { "enforce" },
        "key": policy.key_parts(),
        "limits": limits,
    })
}

/// The place of a policy, and the key of it that a path names, rendered.
fn named(live: &Live, name: &str, key: &Key) -> Result<(u32, Vec<u8>), Problem> {
    let place = live.policies().find(name)?;
    let rendered = match key {
        Key::Parts(parts) => live.policies().key_of(place, parts)?,
        Key::Rendered(text) => live.policies().rendered_key(place, text)?,
    };
    Ok((place, rendered))
}

async fn look(limiter: &Limiter, name: &str, key: &Key, tier: &str) -> Answer {
    let live = limiter.live();
    let (place, rendered) = named(&live, name, key)?;
    let tier = Some(tier).filter(|it| !it.is_empty());
    if let Some(tier) = tier.filter(|it| !live.policies().has_tier(place, it)) {
        return Err(Problem::not_found(format!("the policy `{name}` has no tier `{tier}`")));
    }
    let named = NamedKey { place, key: &rendered, tier };
    let explained = limiter.look(&live, named).await?;
    let ban = limiter.ban_of(&live, place, &rendered).await?;
    let mut json = serde_json::to_value(explained).unwrap_or_default();
    json["key"] = String::from_utf8_lossy(&rendered).into();
    json["ban"] = ban.as_ref().map(ban_json).into();
    json["unseen"] = live.policies().unseen(named).into();
    Ok((json, None))
}

async fn reset(limiter: &Limiter, name: &str, key: &Key) -> Answer {
    let live = limiter.live();
    let (place, rendered) = named(&live, name, key)?;
    let count = limiter.reset(&live, place, &rendered).await?;
    let key = String::from_utf8_lossy(&rendered);
    Ok((json!({ "policy": name, "key": key, "counts_forgotten": count }), Some("key_reset")))
}

fn overrides(limiter: &Limiter, target: &Target) -> Answer {
    let (count, policy) =
        (target.count()?, Some(target.word("policy")).filter(|it| !it.is_empty()));
    let found = limiter.grants(policy, target.word("after"), count);
    let next = found.last().filter(|_| found.len() == count).map(|last| {
        let words = [("policy", policy.unwrap_or_default()), ("after", &last.id)];
        link("/api/v1/overrides", count, &words)
    });
    let all: Vec<Json> = found.iter().map(override_json).collect();
    Ok((json!({ "overrides": all, "next": next }), None))
}

fn override_json(granted: &Granted) -> Json {
    let Granted { id, grant, standing } = granted;
    let mut json = grant.written().clone();
    let (state, problem) = match standing {
        Standing::InForce => ("in_force", None),
        Standing::Orphaned => ("orphaned", Some("its policy is not in the policy file")),
        Standing::Unfit(why) => ("unfit", Some(why.as_str())),
    };
    json["id"] = id.as_str().into();
    json["policy"] = grant.policy().into();
    json["reason"] = grant.reason().into();
    json["set_at"] = time(grant.set_at()).into();
    json["ends_at"] = grant.ends_at().map(time).into();
    json["state"] = state.into();
    json["problem"] = problem.into();
    json
}

async fn bans(limiter: &Limiter, target: &Target) -> Answer {
    let count = target.count()?;
    let after = match target.word("after").split_once(' ') {
        None => AfterBan::default(),
        Some((until, store_key)) => AfterBan {
            until_us: until.parse().map_err(|_| Problem::bad("after: is not of a list of bans"))?,
            store_key: store_key.to_owned(),
        },
    };
    let found = limiter.bans(&after, count).await?;
    let policy = target.word("policy");
    // A page is as long as what was looked at, whatever of it is of the policy.
    let next = found.last().filter(|_| found.len() == count).map(|last| {
        let after = format!("{} {}", last.until.micros(), last.store_key);
        link("/api/v1/bans", count, &[("policy", policy), ("after", &after)])
    });
    let wanted = found.iter().filter(|ban| policy.is_empty() || ban.policy == policy);
    let all: Vec<Json> = wanted.map(ban_json).collect();
    Ok((json!({ "bans": all, "next": next }), None))
}

fn ban_json(ban: &Ban) -> Json {
    let revoke = format!("/api/v1/policies/{}/bans", ban.policy);
    json!({
        "policy": ban.policy,
        "key": ban.key,
        "since": time(ban.since),
        "until": time(ban.until),
        "number": ban.number,
        "revoke": format!("{revoke}?{}", query(&[("key", &ban.key)])),
    })
}

async fn pardon(limiter: &Limiter, name: &str, key: &Key) -> Answer {
    let live = limiter.live();
    let (place, rendered) = named(&live, name, key)?;
    let Some(store_key) = live.policies().ban_key(place, &rendered) else {
        return Err(Problem::not_found(format!("the policy `{name}` has no penalty")));
    };
    let key = String::from_utf8_lossy(&rendered);
    if !limiter.pardon(&store_key).await? {
        return Err(Problem::not_found(format!("`{key}` is not banned by `{name}`")));
    }
    Ok((json!({ "policy": name, "key": key, "ban": "revoked" }), Some("ban_revoked")))
}

async fn explain(limiter: &Limiter, body: &str) -> Answer {
    let question: Question =
        serde_json::from_str(body).map_err(|error| Problem::bad(format!("the body: {error}")))?;
    let asked = question.read().map_err(|error| Problem::bad(format!("request: {error}")))?;
    let explained = limiter.explain(&asked.facts()).await?;
    let generation = limiter.live().generation();
    Ok((json!({ "generation": generation, "policies": explained }), None))
}

/// Where a list goes on.
fn link(path: &str, count: usize, words: &[(&str, &str)]) -> String {
    let mut text = format!("{path}?count={count}");
    // Writing to a String cannot fail.
    let _ = write!(text, "&{}", query(words));
    text
}

fn query(words: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(words.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

/// As RFC 3339 writes it, in UTC.
fn time(moment: Timestamp) -> String {
    let micros = i64::try_from(moment.micros()).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_microsecond(micros);
    moment.map(|it| it.to_string()).unwrap_or_default()
}
