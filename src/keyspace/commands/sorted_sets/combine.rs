//! Unions, intersections and differences of sorted sets, and of sets, whose members
//! count as scored 1.
//!
//! Sums of doubles depend on their order, so the inputs are taken in Redis' order:
//! smallest first, but for a difference.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::store;
use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::commands::Done;
use crate::keyspace::error::CommandError;
use crate::keyspace::set::Set;
use crate::keyspace::sorted_set::{Name, SortedSet};
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

/// What is done with the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// How scores of one member become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, score: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs make 0, as in Redis.
            Aggregate::Sum => or_zero(score + other),
            Aggregate::Min if other < score => other,
            Aggregate::Max if other > score => other,
            Aggregate::Min | Aggregate::Max => score,
        }
    }
}

fn or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What a command asks for.
#[derive(Clone, Debug)]
struct Request {
    /// One for each key, in the order of the keys.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Members to count; 0 counts all.
    limit: usize,
}

/// The words that a command knows behind its keys.
#[derive(Clone, Copy, Debug)]
struct Words {
    weights: bool,
    with_scores: bool,
    limit: bool,
}

/// One input.
#[derive(Clone, Copy, Debug)]
enum Input<'a> {
    Missing,
    Scored(&'a SortedSet),
    Plain(&'a Set),
}

impl<'a> Input<'a> {
    /// A key that is not there is an empty input.
    fn of(value: Option<&'a Value>) -> Result<Input<'a>, CommandError> {
        match value {
            None => Ok(Input::Missing),
            Some(Value::SortedSet(set)) => Ok(Input::Scored(set)),
            Some(Value::Set(set)) => Ok(Input::Plain(set)),
            Some(Value::String(_) | Value::Hash(_) | Value::List(_)) => {
                Err(CommandError::WrongType)
            }
        }
    }

    fn len(self) -> usize {
        match self {
            Input::Missing => 0,
            Input::Scored(set) => set.len(),
            Input::Plain(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Input::Missing => None,
            Input::Scored(set) => set.score(member),
            Input::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    fn entries(self) -> impl Iterator<Item = (Text<'a>, f64)> {
        let (scored, plain) = match self {
            Input::Missing => (None, None),
            Input::Scored(set) => (Some(set.iter()), None),
            Input::Plain(set) => (None, Some(set.iter())),
        };
        let scored = scored.into_iter().flatten();
        let plain = plain.into_iter().flatten().map(|member| (member, 1.0));
        scored.chain(plain)
    }
}

/// `ZUNION numkeys key … [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`
pub(super) fn zunion(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show(space, args, run, Operation::Union, "zunion")
}

/// `ZINTER numkeys key … [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`
pub(super) fn zinter(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show(space, args, run, Operation::Intersection, "zinter")
}

/// `ZDIFF numkeys key … [WITHSCORES]`
pub(super) fn zdiff(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    show(space, args, run, Operation::Difference, "zdiff")
}

/// `ZUNIONSTORE destination numkeys key … [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX]`
pub(super) fn zunionstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    combine_and_store(space, args, run, Operation::Union, "zunionstore")
}

/// `ZINTERSTORE destination numkeys key … [WEIGHTS weight …] [AGGREGATE SUM | MIN | MAX]`
pub(super) fn zinterstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    combine_and_store(space, args, run, Operation::Intersection, "zinterstore")
}

/// `ZDIFFSTORE destination numkeys key …`
pub(super) fn zdiffstore(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    combine_and_store(space, args, run, Operation::Difference, "zdiffstore")
}

/// `ZINTERCARD numkeys key … [LIMIT limit]`
pub(super) fn zintercard(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let words = Words { weights: false, with_scores: false, limit: true };
    let keys = keys_of(&args[1..], "zintercard")?;
    let inputs = find_inputs(space, keys, run)?;
    let request = Request::parse(keys.len(), &args[2 + keys.len()..], words)?;
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let inputs = in_order(&inputs, &request.weights, Operation::Intersection);
    let (smallest, others) = inputs.split_first().ok_or(CommandError::Syntax)?;
    let is_common =
        |(member, _): &(Text<'_>, f64)| others.iter().all(|it| it.0.score(member).is_some());
    let count = smallest.0.entries().filter(is_common).take(limit).count();
    run.reply.count(count);
    Ok(())
}

fn show(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    operation: Operation,
    name: &'static str,
) -> Done {
    let words =
        Words { weights: operation != Operation::Difference, with_scores: true, limit: false };
    let keys = keys_of(&args[1..], name)?;
    let inputs = find_inputs(space, keys, run)?;
    let request = Request::parse(keys.len(), &args[2 + keys.len()..], words)?;
    let members = combine(&inputs, &request, operation);
    if request.with_scores {
        run.reply.pairs(members.len());
    } else {
        run.reply.array(members.len());
    }
    for (member, score) in members {
        run.reply.bulk(&member);
        if request.with_scores {
            run.reply.double(score);
        }
    }
    Ok(())
}

fn combine_and_store(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    operation: Operation,
    name: &'static str,
) -> Done {
    let words =
        Words { weights: operation != Operation::Difference, with_scores: false, limit: false };
    let keys = keys_of(&args[2..], name)?;
    let inputs = find_inputs(space, keys, run)?;
    let request = Request::parse(keys.len(), &args[3 + keys.len()..], words)?;
    let members = combine(&inputs, &request, operation);
    let named = members.iter().map(|(member, score)| (Name::of(member), *score));
    let set = SortedSet::from_sorted(&named.collect::<Vec<_>>());
    store(space, args, run, set, name);
    Ok(())
}

/// The keys behind their count.
fn keys_of<'a>(args: &'a [Arg<'a>], name: &'static str) -> Result<&'a [Arg<'a>], CommandError> {
    let count = args[0].integer()?;
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return Err(CommandError::NoInputKey(name));
    }
    args[1..].get(..count).ok_or(CommandError::Syntax)
}

impl Request {
    fn parse(key_count: usize, options: &[Arg<'_>], words: Words) -> Result<Request, CommandError> {
        let mut request = Request {
            weights: vec![1.0; key_count],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        let mut rest = options;
        while let [word, behind @ ..] = rest {
            rest = behind;
            if words.weights && word.is_word("weights") && behind.len() >= key_count {
                let (weights, behind) = behind.split_at(key_count);
                for (weight, text) in request.weights.iter_mut().zip(weights) {
                    *weight = text.double().map_err(|_| CommandError::WeightNotFloat)?;
                }
                rest = behind;
            } else if words.weights
                && word.is_word("aggregate")
                && let [how, behind @ ..] = behind
            {
                request.aggregate = Aggregate::parse(*how)?;
                rest = behind;
            } else if words.with_scores && word.is_word("withscores") {
                request.with_scores = true;
            } else if words.limit
                && word.is_word("limit")
                && let [limit, behind @ ..] = behind
            {
                request.limit = limit.count().map_err(|_| CommandError::Negative("LIMIT"))?;
                rest = behind;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(request)
    }
}

impl Aggregate {
    fn parse(word: Arg<'_>) -> Result<Aggregate, CommandError> {
        let known = [("sum", Aggregate::Sum), ("min", Aggregate::Min), ("max", Aggregate::Max)];
        let found = known.into_iter().find(|(name, _)| word.is_word(name));
        found.map(|(_, aggregate)| aggregate).ok_or(CommandError::Syntax)
    }
}

/// Looks all keys up, to the first of a kind that is no input.
fn find_inputs<'a>(
    space: &'a mut Keyspace,
    keys: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Result<Vec<Input<'a>>, CommandError> {
    let mut ids = Vec::with_capacity(keys.len());
    for key in keys {
        let id = space.look_up(&key.text(), run);
        Input::of(id.and_then(|id| space.slots.value(id)))?;
        ids.push(id);
    }
    let space = &*space;
    ids.into_iter().map(|id| Input::of(id.and_then(|id| space.slots.value(id)))).collect()
}

/// The inputs with their weights, in the order in which they are taken.
fn in_order<'a>(
    inputs: &[Input<'a>],
    weights: &[f64],
    operation: Operation,
) -> Vec<(Input<'a>, f64)> {
    let mut inputs: Vec<_> = inputs.iter().copied().zip(weights.iter().copied()).collect();
    if operation != Operation::Difference {
        inputs.sort_by_key(|(input, _)| input.len());
    }
    inputs
}

/// The members that come of it with their scores, in order.
fn combine<'a>(
    inputs: &[Input<'a>],
    request: &Request,
    operation: Operation,
) -> Vec<(Text<'a>, f64)> {
    let inputs = in_order(inputs, &request.weights, operation);
    let mut members = match operation {
        Operation::Union => union(&inputs, request.aggregate),
        Operation::Intersection => intersection(&inputs, request.aggregate),
        Operation::Difference => difference(&inputs),
    };
    members.sort_by(|(member, score), (other, other_score)| {
        score
            .partial_cmp(other_score)
            .unwrap_or(Ordering::Equal)
            .then_with(|| (**member).cmp(other))
    });
    members
}

fn union<'a>(inputs: &[(Input<'a>, f64)], aggregate: Aggregate) -> Vec<(Text<'a>, f64)> {
    let mut scores: HashMap<Text<'a>, f64> = HashMap::new();
    for (input, weight) in inputs {
        for (member, score) in input.entries() {
            let score = or_zero(weight * score);
            let total = |before: &mut f64| *before = aggregate.of(*before, score);
            scores.entry(member).and_modify(total).or_insert(score);
        }
    }
    scores.into_iter().collect()
}

fn intersection<'a>(inputs: &[(Input<'a>, f64)], aggregate: Aggregate) -> Vec<(Text<'a>, f64)> {
    let Some((smallest, others)) = inputs.split_first() else { return Vec::new() };
    let total = |(member, score): (Text<'a>, f64)| {
        let mut total = or_zero(smallest.1 * score);
        for (input, weight) in others {
            total = aggregate.of(total, weight * input.score(&member)?);
        }
        Some((member, total))
    };
    smallest.0.entries().filter_map(total).collect()
}

fn difference<'a>(inputs: &[(Input<'a>, f64)]) -> Vec<(Text<'a>, f64)> {
    let Some((first, others)) = inputs.split_first() else { return Vec::new() };
    let is_nowhere_else = |(member, _): &(Text<'_>, f64)| {
        others.iter().all(|(input, _)| input.score(member).is_none())
    };
    first.0.entries().filter(is_nowhere_else).collect()
}
