//! From the reply of a limiter Function to outcomes.
//!
//! The contract of a limiter Function: a limit answers
//! `{admitted, remaining, reset_after_ms, retry_after_ms}`, or a bare 1 or 0. A
//! Function over several limits answers an array of those, one per key. The shipped
//! ones add a fifth number, when they charged (`functions/limiter.lua`).

use std::time::Duration;

use crate::resp::View;

use super::decision::Outcome;

/// A reply that does not follow the contract of a limiter Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply is not {{admitted, remaining, reset_after_ms, retry_after_ms}}, 1 or 0")]
pub struct NotAnOutcome;

/// The outcome that one limit's reply states. `window` is told as the wait
/// when a bare 0 does not say one: no sliding window takes longer.
fn single(reply: View<'_>, window: Duration) -> Result<Outcome, NotAnOutcome> {
    match reply {
        View::Integer(bare @ (0 | 1)) => Ok(Outcome {
            admitted: bare == 1,
            remaining: None,
            reset_after: None,
            retry_after: Some(if bare == 1 { Duration::ZERO } else { window }),
            charged_at_us: 0,
        }),
        View::Array(items) => {
            let mut numbers = items.map(|item| match item {
                View::Integer(number) => Ok(number),
                _ => Err(NotAnOutcome),
            });
            let mut next = || numbers.next().unwrap_or(Err(NotAnOutcome));
            let (admitted, remaining, reset, retry) = (next()?, next()?, next()?, next()?);
            Ok(Outcome {
                admitted: match admitted {
                    0 => false,
                    1 => true,
                    _ => return Err(NotAnOutcome),
                },
                remaining: Some(u64::try_from(remaining).map_err(|_| NotAnOutcome)?),
                reset_after: Some(millis(reset)?),
                // A negative number says that waiting does not help.
                retry_after: if retry < 0 { None } else { Some(millis(retry)?) },
                // The shipped Functions say when they charged.
                charged_at_us: match numbers.next() {
                    Some(at) => u64::try_from(at?).map_err(|_| NotAnOutcome)?,
                    None => 0,
                },
            })
        }
        _ => Err(NotAnOutcome),
    }
}

/// Reads the outcomes of a call, a limit for each of `windows`, and hands each on with
/// its place. With `listed`, the reply is an array of outcomes, as of
/// `limiter.decide`; otherwise it is the one outcome of one limit. Returns the
/// reservation that may follow the outcomes.
pub fn read<'r>(
    reply: View<'r>,
    listed: bool,
    windows: &[Duration],
    mut each: impl FnMut(usize, Outcome),
) -> Result<Option<&'r [u8]>, NotAnOutcome> {
    if !listed {
        each(0, single(reply, windows[0])?);
        return Ok(None);
    }
    let View::Array(mut items) = reply else { return Err(NotAnOutcome) };
    for (index, window) in windows.iter().enumerate() {
        each(index, single(items.next().ok_or(NotAnOutcome)?, *window)?);
    }
    match (items.next(), items.next()) {
        (None, None) => Ok(None),
        (Some(View::Bulk(reservation)), None) => Ok(Some(reservation)),
        _ => Err(NotAnOutcome),
    }
}

/// True when every limit of a reply had room that is `heeded`; of several limits
/// each by its place. A reply that is no outcome is not accepted either, so that
/// its group is undone.
pub fn accepted(reply: View<'_>, heeded: &[bool]) -> bool {
    match reply {
        View::Integer(bare) => bare == 1,
        View::Array(mut items) => match items.next() {
            Some(View::Integer(admitted)) => admitted == 1,
            Some(first) => {
                let mut others = items.zip(heeded.iter().skip(1));
                let of_one = |item: View<'_>, heeded: &bool| !heeded || accepted(item, &[]);
                of_one(first, heeded.first().unwrap_or(&true))
                    && others.all(|(item, heeded)| of_one(item, heeded))
            }
            None => false,
        },
        _ => false,
    }
}

fn millis(number: i64) -> Result<Duration, NotAnOutcome> {
    u64::try_from(number).map(Duration::from_millis).map_err(|_| NotAnOutcome)
}
