//! Commands that add members to sorted sets or change their scores.

use smallvec::SmallVec;

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::collections::locate;
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::SortedSetMut;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

/// Conditions of `ZADD`.
#[derive(Clone, Copy, Debug, Default)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    changed: bool,
    increment: bool,
}

/// What became of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// A condition did not hold.
    Refused,
    Unchanged(f64),
    Rescored {
        from: f64,
        to: f64,
    },
    Added(f64),
}

impl AddOptions {
    /// Reads the options; how many there were.
    fn parse(args: &[Arg<'_>]) -> (AddOptions, usize) {
        let mut options = AddOptions::default();
        let mut count = 0;
        for word in args {
            if matches!(word, Arg::Number(_)) {
                break;
            } else if word.is_word("nx") {
                options.nx = true;
            } else if word.is_word("xx") {
                options.xx = true;
            } else if word.is_word("gt") {
                options.gt = true;
            } else if word.is_word("lt") {
                options.lt = true;
            } else if word.is_word("ch") {
                options.changed = true;
            } else if word.is_word("incr") {
                options.increment = true;
            } else {
                break;
            }
            count += 1;
        }
        (options, count)
    }

    fn check(self, element_count: usize) -> Result<(), CommandError> {
        if self.nx && self.xx {
            return Err(CommandError::XxWithNx);
        }
        if self.gt && self.lt || self.nx && (self.gt || self.lt) {
            return Err(CommandError::GtLtNxTogether);
        }
        if self.increment && element_count > 1 {
            return Err(CommandError::IncrementOfMany);
        }
        Ok(())
    }

    /// What is to become of a member that has the score `current`.
    fn decide(self, current: Option<f64>, score: f64) -> Result<Change, CommandError> {
        let Some(current) = current else {
            return Ok(if self.xx { Change::Refused } else { Change::Added(score) });
        };
        if self.nx {
            return Ok(Change::Refused);
        }
        let to = if self.increment { current + score } else { score };
        if to.is_nan() {
            return Err(CommandError::ScoreNotNumber);
        }
        if self.gt && to <= current || self.lt && to >= current {
            return Ok(Change::Refused);
        }
        if to == current {
            return Ok(Change::Unchanged(current));
        }
        Ok(Change::Rescored { from: current, to })
    }
}

/// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member …`
pub(super) fn zadd(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let (options, option_count) = AddOptions::parse(&args[2..]);
    let elements = &args[2 + option_count..];
    if elements.is_empty() || !elements.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    options.check(elements.len() / 2)?;
    add(space, args, elements, options, run)
}

/// `ZINCRBY key increment member`. An option of `ZADD` in the increment's place is
/// an option, and leaves too few arguments.
pub(super) fn zincrby(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    if AddOptions::parse(&args[2..]).1 > 0 {
        return Err(CommandError::Syntax);
    }
    let options = AddOptions { increment: true, ..AddOptions::default() };
    add(space, args, &args[2..], options, run)
}

/// Adds `elements`, scores and members in turn, to the sorted set of `args[1]`.
fn add(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    elements: &[Arg<'_>],
    options: AddOptions,
    run: &mut Execution<'_>,
) -> Done {
    // All scores are read before anything changes.
    let mut scores: SmallVec<[f64; 4]> = SmallVec::new();
    for score in elements.iter().step_by(2) {
        scores.push(score.double()?);
    }
    let key = args[1].text();
    let id = match locate::<SortedSet>(space, &key, run)?.0 {
        Ok(id) => id,
        Err(_) if options.xx => {
            if options.increment {
                run.reply.null();
            } else {
                run.reply.integer(0);
            }
            return Ok(());
        }
        Err(vacant) => space.create(vacant, &key, Value::SortedSet(SortedSet::new()), run),
    };
    let (mut added, mut rescored, mut last) = (0, 0, Change::Refused);
    if let Some(mut set) = space.slots.sorted_set(id) {
        for (element, score) in elements.chunks_exact(2).zip(scores) {
            last = apply(&mut set, &element[1].text(), score, options)?;
            match last {
                Change::Added(_) => added += 1,
                Change::Rescored { .. } => rescored += 1,
                Change::Refused | Change::Unchanged(_) => {}
            }
        }
    }
    if added + rescored > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        run.notify(EventClass::SORTED_SET, event, &key);
        run.record(args);
    }
    match last {
        _ if !options.increment && options.changed => run.reply.integer(added + rescored),
        _ if !options.increment => run.reply.integer(added),
        Change::Refused => run.reply.null(),
        Change::Added(score) | Change::Unchanged(score) | Change::Rescored { to: score, .. } => {
            run.reply.double(score);
        }
    }
    Ok(())
}

fn apply(
    set: &mut SortedSetMut<'_>,
    member: &[u8],
    score: f64,
    options: AddOptions,
) -> Result<Change, CommandError> {
    let change = options.decide(set.score(member), score)?;
    match change {
        Change::Added(score) => set.add(member, score),
        Change::Rescored { from, to } => set.rescore(member, from, to),
        Change::Refused | Change::Unchanged(_) => {}
    }
    Ok(change)
}
