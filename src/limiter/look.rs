//! Looking at keys, and forgetting what they used: what an operator asks for.
//!
//! Looking changes nothing, so it tells what a request would be told if it came now.
//! A Function of the user's cannot be asked without being charged, so what is left of
//! it is not known.

use crate::base::clock::Timestamp;
use crate::policy::{Explained, Left, Made, NamedKey, RequestFacts};
use crate::resp::{Reply, View};
use crate::store::{self, Call};

use super::ask::{BANS, Error, Scratch};
use super::live::Live;
use super::{Limiter, Outcome};

const RESET: &str = "limiter.reset";
const BANS_FUNCTION: &str = "limiter.bans";
const BANNED: &str = "limiter.banned";
const PARDON: &str = "limiter.pardon";

/// A key that is banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Where the ban is kept: `weir:<policy>:0ban:{<key>}`.
    pub store_key: String,
    /// Its policy.
    pub policy: String,
    /// Whose it is, as it is counted under.
    pub key: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Which it is of this key, from 1: each is longer than the one before.
    pub number: u64,
}

/// Where a list of bans goes on: after the ban that ends then, of that store key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AfterBan {
    /// Its end, in microseconds.
    pub until_us: u64,
    /// Where it is kept.
    pub store_key: String,
}

impl Limiter {
    /// What every policy makes of a request, and what is left under each limit.
    ///
    /// # Errors
    /// The store does not answer, or not by the contract.
    pub async fn explain(&self, facts: &RequestFacts<'_>) -> Result<Vec<Explained>, Error> {
        let live = self.live();
        let mut scratch = Scratch::default();
        live.policies().plan(facts, Some(self.store.now()), scratch.begin(self.wait_max));
        let mut explained = live.policies().explain(facts, scratch.plan());
        self.fill_in(&live, &mut scratch, &mut explained).await?;
        Ok(explained)
    }

    /// What a policy of `live` makes of a key, and what is left.
    ///
    /// # Errors
    /// As above.
    pub async fn look(&self, live: &Live, named: NamedKey<'_>) -> Result<Explained, Error> {
        let mut scratch = Scratch::default();
        live.policies().plan_key(self.store.now(), named, scratch.begin(self.wait_max));
        let mut explained = [live.policies().explain_planned(named.place, scratch.plan())];
        self.fill_in(live, &mut scratch, &mut explained).await?;
        let [explained] = explained;
        Ok(explained)
    }

    async fn fill_in(
        &self,
        live: &Live,
        scratch: &mut Scratch,
        explained: &mut [Explained],
    ) -> Result<(), Error> {
        scratch.peek(live, &self.store).await?;
        let limits = explained.iter_mut().flat_map(|it| match &mut it.made {
            Made::Limited { limits, .. } => limits.as_mut_slice(),
            _ => &mut [],
        });
        for (limit, outcome) in limits.zip(scratch.outcomes()) {
            limit.left = outcome.as_ref().map(left);
        }
        Ok(())
    }

    /// Forgets everything that a rendered key of a policy used, its refusals and bans
    /// included; tells how many counts there were.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn reset(&self, live: &Live, policy: u32, key: &[u8]) -> Result<u64, store::Error> {
        let keys = live.policies().store_keys(policy, key);
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let mut replies = vec![Reply::default()];
        let call = Call { function: RESET, keys: &keys, args: &[] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        Ok(integer(replies[0].view()))
    }

    /// The bans in force, by their ends, at most `count` of them, after one that was
    /// seen.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn bans(&self, after: &AfterBan, count: usize) -> Result<Vec<Ban>, store::Error> {
        let (count, until_us) = (count.to_string(), after.until_us.to_string());
        let args = [count.as_bytes(), until_us.as_bytes(), after.store_key.as_bytes()];
        let mut replies = vec![Reply::default()];
        let call = Call { function: BANS_FUNCTION, keys: &[BANS], args: &args };
        self.store.call(&[call], &mut replies, |_| true).await?;
        let keys: Vec<String> = match replies[0].view() {
            View::Array(items) => items.step_by(2).filter_map(text).collect(),
            _ => Vec::new(),
        };
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let bytes: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let call = Call { function: BANNED, keys: &bytes, args: &[] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        let View::Array(states) = replies[0].view() else { return Ok(Vec::new()) };
        Ok(keys.into_iter().zip(states).filter_map(|(key, state)| ban(key, state)).collect())
    }

    /// The ban of a rendered key, if one is in force.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn ban_of(
        &self,
        live: &Live,
        policy: u32,
        key: &[u8],
    ) -> Result<Option<Ban>, store::Error> {
        let Some(store_key) = live.policies().ban_key(policy, key) else { return Ok(None) };
        let mut replies = vec![Reply::default()];
        let call = Call { function: BANNED, keys: &[&store_key], args: &[] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        let View::Array(mut states) = replies[0].view() else { return Ok(None) };
        let store_key = String::from_utf8_lossy(&store_key).into_owned();
        Ok(states.next().and_then(|state| ban(store_key, state)))
    }

    /// Forgets the refusals and bans at a store key; false if none was in force.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn pardon(&self, store_key: &[u8]) -> Result<bool, store::Error> {
        let mut replies = vec![Reply::default()];
        let call = Call { function: PARDON, keys: &[store_key, BANS], args: &[] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        Ok(integer(replies[0].view()) == 1)
    }
}

fn left(outcome: &Outcome) -> Left {
    let ms = |span: std::time::Duration| span.as_millis() as u64;
    Left {
        admits: outcome.admitted,
        remaining: outcome.remaining.unwrap_or(0),
        reset_after_ms: outcome.reset_after.map_or(0, ms),
        retry_after_ms: outcome.retry_after.map(ms),
    }
}

/// A ban from where it is kept, and `{ number, since, until }`.
fn ban(store_key: String, state: View<'_>) -> Option<Ban> {
    let View::Array(numbers) = state else { return None };
    let numbers: Vec<u64> = numbers.map(integer).collect();
    let [number, since, until] = numbers[..] else { return None };
    let (policy, rest) = store_key.strip_prefix("weir:")?.split_once(':')?;
    let (_, key) = rest.split_once(":{")?;
    let (policy, key) = (policy.to_owned(), key.strip_suffix('}')?.to_owned());
    let (since, until) = (Timestamp::from_micros(since), Timestamp::from_micros(until));
    Some(Ban { store_key, policy, key, since, until, number })
}

fn integer(view: View<'_>) -> u64 {
    match view {
        View::Integer(number) => u64::try_from(number).unwrap_or(0),
        _ => 0,
    }
}

fn text(view: View<'_>) -> Option<String> {
    match view {
        View::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}
