//! Commands on sorted sets.
//!
//! | file | what |
//! |---|---|
//! | `add` | members and their scores |
//! | `look` | single members, members at random, `ZSCAN` |
//! | `ranges` | by index, by score, by member |
//! | `remove` | by name, by range, from either end |
//! | `combine` | union, intersection, difference |

mod add;
mod combine;
mod look;
mod ranges;
mod remove;
#[cfg(test)]
mod tests;

use crate::keyspace::arg::Arg;
use crate::keyspace::command::short::{
    GROW, GROW_FAST, ONE_KEY, READ, READ_FAST, TWO_KEYS, WRITE, WRITE_FAST,
};
use crate::keyspace::command::{Flags, KeyPositions, Table, docs, entry};
use crate::keyspace::commands::collections;
use crate::keyspace::notices::EventClass;
use crate::keyspace::sorted_set::SortedSet;
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::Value;

const MANY_READ: Flags = READ.and(Flags::MOVABLE_KEYS);
const MANY_WRITE: Flags = WRITE.and(Flags::MOVABLE_KEYS);
const MANY_STORE: Flags = GROW.and(Flags::MOVABLE_KEYS);

/// `ZUNION numkeys key …`
const COUNTED: KeyPositions = KeyPositions { first: 0, last: 0, step: 0, counted: 1 };
/// `ZUNIONSTORE destination numkeys key …`
const COUNTED_STORE: KeyPositions = KeyPositions { first: 1, last: 1, step: 1, counted: 2 };

/// The commands of this folder.
pub(in crate::keyspace) static TABLE: Table = Table {
    group: "sorted-set",
    commands: &[
        entry(
            "zadd",
            -4,
            GROW_FAST,
            ONE_KEY,
            add::zadd,
            docs(
                "1.2.0",
                "O(log N) for each member",
                "Adds members with scores, or changes their scores.",
            ),
        ),
        entry(
            "zcard",
            2,
            READ_FAST,
            ONE_KEY,
            look::zcard,
            docs("1.2.0", "O(1)", "Counts the members of a sorted set."),
        ),
        entry(
            "zcount",
            4,
            READ_FAST,
            ONE_KEY,
            ranges::zcount,
            docs("2.0.0", "O(log N)", "Counts the members whose scores lie within a range."),
        ),
        entry(
            "zdiff",
            -3,
            MANY_READ,
            COUNTED,
            combine::zdiff,
            docs(
                "6.2.0",
                "O(N) in the members of all sets",
                "Shows the members of the first set that are in none of the others.",
            ),
        ),
        entry(
            "zdiffstore",
            -4,
            MANY_STORE,
            COUNTED_STORE,
            combine::zdiffstore,
            docs(
                "6.2.0",
                "O(N) in the members of all sets",
                "Stores the members of the first set that are in none of the others.",
            ),
        ),
        entry(
            "zincrby",
            4,
            GROW_FAST,
            ONE_KEY,
            add::zincrby,
            docs("1.2.0", "O(log N)", "Adds to the score of a member."),
        ),
        entry(
            "zinter",
            -3,
            MANY_READ,
            COUNTED,
            combine::zinter,
            docs(
                "6.2.0",
                "O(N*K) for K sets, the smallest of N members",
                "Shows the members that are in all sets.",
            ),
        ),
        entry(
            "zintercard",
            -3,
            MANY_READ,
            COUNTED,
            combine::zintercard,
            docs(
                "7.0.0",
                "O(N*K) for K sets, the smallest of N members",
                "Counts the members that are in all sets.",
            ),
        ),
        entry(
            "zinterstore",
            -4,
            MANY_STORE,
            COUNTED_STORE,
            combine::zinterstore,
            docs(
                "2.0.0",
                "O(N*K) for K sets, the smallest of N members",
                "Stores the members that are in all sets.",
            ),
        ),
        entry(
            "zlexcount",
            4,
            READ_FAST,
            ONE_KEY,
            ranges::zlexcount,
            docs("2.8.9", "O(log N)", "Counts the members within a range of bytes."),
        ),
        entry(
            "zmpop",
            -4,
            MANY_WRITE,
            COUNTED,
            remove::zmpop,
            docs(
                "7.0.0",
                "O(K) + O(M log N) for M members taken",
                "Takes members off one end of the first set that is there.",
            ),
        ),
        entry(
            "zmscore",
            -3,
            READ_FAST,
            ONE_KEY,
            look::zmscore,
            docs("6.2.0", "O(M) in the members named", "Tells the scores of several members."),
        ),
        entry(
            "zpopmax",
            -2,
            WRITE_FAST,
            ONE_KEY,
            remove::zpopmax,
            docs(
                "5.0.0",
                "O(M log N) for M members taken",
                "Takes the members of the highest scores.",
            ),
        ),
        entry(
            "zpopmin",
            -2,
            WRITE_FAST,
            ONE_KEY,
            remove::zpopmin,
            docs(
                "5.0.0",
                "O(M log N) for M members taken",
                "Takes the members of the lowest scores.",
            ),
        ),
        entry(
            "zrandmember",
            -2,
            READ,
            ONE_KEY,
            look::zrandmember,
            docs("6.2.0", "O(M log N) for M members shown", "Shows members at random."),
        ),
        entry(
            "zrange",
            -4,
            READ,
            ONE_KEY,
            ranges::zrange,
            docs(
                "1.2.0",
                "O(log N + M) for M members shown",
                "Shows the members within a range of indexes, scores or bytes.",
            ),
        ),
        entry(
            "zrangebylex",
            -4,
            READ,
            ONE_KEY,
            ranges::zrangebylex,
            docs(
                "2.8.9",
                "O(log N + M) for M members shown",
                "Shows the members within a range of bytes.",
            ),
        ),
        entry(
            "zrangebyscore",
            -4,
            READ,
            ONE_KEY,
            ranges::zrangebyscore,
            docs(
                "1.0.5",
                "O(log N + M) for M members shown",
                "Shows the members whose scores lie within a range.",
            ),
        ),
        entry(
            "zrangestore",
            -5,
            GROW,
            TWO_KEYS,
            ranges::zrangestore,
            docs(
                "6.2.0",
                "O(log N + M) for M members stored",
                "Stores the members within a range of indexes, scores or bytes.",
            ),
        ),
        entry(
            "zrank",
            3,
            READ_FAST,
            ONE_KEY,
            look::zrank,
            docs("2.0.0", "O(log N)", "Tells how many members come before one."),
        ),
        entry(
            "zrem",
            -3,
            WRITE_FAST,
            ONE_KEY,
            remove::zrem,
            docs("1.2.0", "O(M log N) for M members named", "Takes members out."),
        ),
        entry(
            "zremrangebylex",
            4,
            WRITE,
            ONE_KEY,
            remove::zremrangebylex,
            docs(
                "2.8.9",
                "O(log N + M) for M members taken out",
                "Takes out the members within a range of bytes.",
            ),
        ),
        entry(
            "zremrangebyrank",
            4,
            WRITE,
            ONE_KEY,
            remove::zremrangebyrank,
            docs(
                "2.0.0",
                "O(log N + M) for M members taken out",
                "Takes out the members within a range of indexes.",
            ),
        ),
        entry(
            "zremrangebyscore",
            4,
            WRITE,
            ONE_KEY,
            remove::zremrangebyscore,
            docs(
                "1.2.0",
                "O(log N + M) for M members taken out",
                "Takes out the members whose scores lie within a range.",
            ),
        ),
        entry(
            "zrevrange",
            -4,
            READ,
            ONE_KEY,
            ranges::zrevrange,
            docs(
                "1.2.0",
                "O(log N + M) for M members shown",
                "Shows the members within a range of indexes, highest first.",
            ),
        ),
        entry(
            "zrevrangebylex",
            -4,
            READ,
            ONE_KEY,
            ranges::zrevrangebylex,
            docs(
                "2.8.9",
                "O(log N + M) for M members shown",
                "Shows the members within a range of bytes, last first.",
            ),
        ),
        entry(
            "zrevrangebyscore",
            -4,
            READ,
            ONE_KEY,
            ranges::zrevrangebyscore,
            docs(
                "2.2.0",
                "O(log N + M) for M members shown",
                "Shows the members whose scores lie within a range, highest first.",
            ),
        ),
        entry(
            "zrevrank",
            3,
            READ_FAST,
            ONE_KEY,
            look::zrevrank,
            docs("2.0.0", "O(log N)", "Tells how many members come after one."),
        ),
        entry(
            "zscan",
            -3,
            READ,
            ONE_KEY,
            look::zscan,
            docs(
                "2.8.0",
                "O(1) for each step, O(N) for all",
                "Shows some members with scores, and from where to go on.",
            ),
        ),
        entry(
            "zscore",
            3,
            READ_FAST,
            ONE_KEY,
            look::zscore,
            docs("1.2.0", "O(1)", "Tells the score of a member."),
        ),
        entry(
            "zunion",
            -3,
            MANY_READ,
            COUNTED,
            combine::zunion,
            docs(
                "6.2.0",
                "O(N log N) in the members of all sets",
                "Shows the members that are in any of the sets.",
            ),
        ),
        entry(
            "zunionstore",
            -4,
            MANY_STORE,
            COUNTED_STORE,
            combine::zunionstore,
            docs(
                "2.0.0",
                "O(N log N) in the members of all sets",
                "Stores the members that are in any of the sets.",
            ),
        ),
    ],
};

/// Stores a set under `args[1]`, whatever was there, and replies with its length.
/// An empty set is no key.
fn store(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    run: &mut Execution<'_>,
    set: SortedSet,
    event: &'static str,
) {
    run.reply.count(set.len());
    let value = (!set.is_empty()).then_some(Value::SortedSet(set));
    collections::store(space, args, value, (EventClass::SORTED_SET, event), run);
}
