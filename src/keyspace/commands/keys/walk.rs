//! Commands on many keys: `KEYS`, `SCAN`, `RANDOMKEY`.
//!
//! A cursor of `SCAN` is the number of a slot. A key keeps its slot for life, also
//! under another name, so whatever comes and goes between two steps, a key that
//! is there from the first step to the last is shown exactly once.

use crate::keyspace::arg::Arg;
use crate::keyspace::commands::Done;
use crate::keyspace::commands::scan::{self, ScanOptions};
use crate::keyspace::glob;
use crate::keyspace::space::{Execution, Keyspace};

/// Slots that a step looks at for each key that it is asked for: where most slots
/// are empty, it shows fewer keys rather than search on.
const SLOTS_FOR_EACH_KEY: usize = 10;

/// `KEYS pattern`
pub(super) fn keys(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let pattern = args[1].text();
    let mark = run.reply.open_array();
    let mut count = 0;
    for (key, _, deadline) in space.entries() {
        if !run.has_expired(deadline) && (*pattern == *b"*" || glob::matches(&pattern, key)) {
            run.reply.bulk(key);
            count += 1;
        }
    }
    run.reply.close_array(mark, count);
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
pub(super) fn scan(space: &mut Keyspace, args: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    let cursor = scan::cursor(args[1])?;
    let options = ScanOptions::parse(&args[2..], true)?;
    let used = space.slots.used();
    let begin = usize::try_from(cursor).unwrap_or(usize::MAX).min(used);
    let end = begin.saturating_add(options.count.saturating_mul(SLOTS_FOR_EACH_KEY)).min(used);
    // The cursor comes before the keys and is known after them.
    let (mut shown, mut at, mut seen) = (Vec::new(), begin, 0);
    while at < end && seen < options.count {
        if let Some(id) = space.slots.live_at(at) {
            seen += 1;
            let kind = space.slots.value(id).map_or("none", |value| value.type_name());
            let is_wanted = options.shows(space.slots.key(id)) && options.shows_type(kind);
            if is_wanted && !space.expire_if_due(id, run) {
                shown.push(id);
            }
        }
        at += 1;
    }
    run.reply.array(2);
    run.reply.bulk_integer(if at < used { at as u64 } else { 0 });
    run.reply.array(shown.len());
    for id in shown {
        run.reply.bulk(space.slots.key(id));
    }
    Ok(())
}

/// `RANDOMKEY`
pub(super) fn randomkey(space: &mut Keyspace, _: &[Arg<'_>], run: &mut Execution<'_>) -> Done {
    while let Some(id) = space.random_slot() {
        if !space.expire_if_due(id, run) {
            run.reply.bulk(space.slots.key(id));
            return Ok(());
        }
    }
    run.reply.null();
    Ok(())
}
