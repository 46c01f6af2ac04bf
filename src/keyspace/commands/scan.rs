//! What `SCAN` and its kin have in common: cursors and options.

use crate::keyspace::arg::{Arg, Text};
use crate::keyspace::error::CommandError;
use crate::keyspace::glob;
use crate::resp::Reply;

/// How many elements a step shows unless told, roughly.
const COUNT_DEFAULT: usize = 10;

/// Which elements a step shows, and roughly how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanOptions<'a> {
    /// At least 1.
    pub(super) count: usize,
    pattern: Option<Text<'a>>,
    type_name: Option<Text<'a>>,
}

impl<'a> ScanOptions<'a> {
    /// Reads `MATCH`, `COUNT` and, for keys, `TYPE`.
    pub(super) fn parse(
        args: &[Arg<'a>],
        takes_type: bool,
    ) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions { count: COUNT_DEFAULT, pattern: None, type_name: None };
        let (pairs, rest) = args.as_chunks::<2>();
        for [word, value] in pairs {
            if word.is_word("count") {
                let count = usize::try_from(value.integer()?).unwrap_or(0);
                options.count = count;
                if count == 0 {
                    return Err(CommandError::Syntax);
                }
            } else if word.is_word("match") {
                options.pattern = Some(value.text()).filter(|pattern| **pattern != *b"*");
            } else if takes_type && word.is_word("type") {
                options.type_name = Some(value.text());
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if rest.is_empty() { Ok(options) } else { Err(CommandError::Syntax) }
    }

    /// True if the pattern, where there is one, matches this name.
    pub(super) fn shows(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(&pattern, name))
    }

    /// True if this kind of value is wanted.
    pub(super) fn shows_type(&self, name: &str) -> bool {
        self.type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// Reads a cursor as C's `strtoul` does, but for blanks before it.
pub(super) fn cursor(arg: Arg<'_>) -> Result<u64, CommandError> {
    let text = arg.text();
    let (is_negative, digits) = match &*text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|it| it.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u64>().ok())
        .ok_or(CommandError::InvalidCursor)?;
    Ok(if is_negative { value.wrapping_neg() } else { value })
}

/// Answers with the next cursor and what a step over a collection shows.
pub(super) fn reply(reply: &mut Reply, cursor: u64, shown: &[Text<'_>]) {
    reply.array(2);
    reply.bulk_integer(cursor);
    reply.array(shown.len());
    shown.iter().for_each(|text| reply.bulk(text));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use crate::keyspace::Keyspace;
    use crate::keyspace::commands::tests::line;

    /// How an element of each kind is scanned for, added and removed; of those that are
    /// shown, every how many-th is a name.
    const KINDS: [(&str, &str, &str, usize); 4] = [
        ("SCAN", "SET {} v", "DEL {}", 1),
        ("SSCAN k", "SADD k {}", "SREM k {}", 1),
        ("HSCAN k", "HSET k {} v", "HDEL k {}", 2),
        // A score that differs from time to time, and is often another's too.
        ("ZSCAN k", "ZADD k {score} {}", "ZREM k {}", 2),
    ];

    fn run(space: &mut Keyspace, template: &str, name: &str, score: usize) -> String {
        let typed = template.replace("{}", name).replace("{score}", &(score % 3).to_string());
        line(space, &typed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_scan_shows_all_that_stays_while_others_come_and_go(
            kind in 0usize..4,
            stays in 1usize..400,
            changes in vec((0u8..12, any::<bool>()), 0..120),
            counts in vec(1usize..40, 1..8),
        ) {
            let (scan, add, remove, width) = KINDS[kind];
            let mut space = Keyspace::new();
            let stays: Vec<String> = (0..stays).map(|it| format!("stays:{it}")).collect();
            for (at, name) in stays.iter().enumerate() {
                run(&mut space, add, name, at);
            }
            let (mut cursor, mut seen, mut changes) = ("0".to_owned(), BTreeSet::new(), changes.chunks(3));
            for step in 0.. {
                prop_assert!(step < 2_000, "the cursor does not come back");
                let reply = line(&mut space, &format!("{scan} {cursor} COUNT {}", counts[step % counts.len()]));
                let (next, shown) = reply[1..].split_once(' ').unwrap();
                let shown = shown.trim_matches(['[', ']']).split_whitespace().step_by(width);
                seen.extend(shown.map(str::to_owned));
                if next == "0" {
                    break;
                }
                cursor = next.to_owned();
                // Many at once, so that tables split and join.
                for (group, joins) in changes.next().into_iter().flatten() {
                    for name in (0..60).map(|it| format!("goes:{group}:{it}")) {
                        run(&mut space, if *joins { add } else { remove }, &name, step);
                    }
                    // What stays is written again, a sorted set's under another score.
                    run(&mut space, add, &stays[usize::from(*group) % stays.len()], step);
                }
            }
            for name in &stays {
                prop_assert!(seen.contains(name), "{scan}: {name} was missed");
            }
        }
    }
}
