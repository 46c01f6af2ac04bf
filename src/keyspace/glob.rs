//! Patterns of names, as `KEYS`, `SCAN` and `PSUBSCRIBE` take them.
//!
//! | pattern | matches |
//! |---|---|
//! | `*`, `?` | any bytes, any one byte |
//! | `[abc]`, `[a-c]`, `[^a]` | one byte of these, of this range, none of these |
//! | `\*` | the byte behind the backslash, also within a class |
//!
//! Oddities are Redis' own: a class that is not closed ends with the pattern, a
//! range may be written backward, bytes of a range count as signed, and of all
//! patterns of stars only `*` itself matches nothing at all.
//!
//! A star that fails is tried one byte on, and only the last star: what an
//! earlier one could still do, the last one has done. So the time is at most the
//! product of the two lengths, whatever a stranger writes.

/// True if the whole of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return matches!(pattern, b"" | b"*");
    }
    let (mut at, mut pattern_at) = (0, 0);
    // Behind the last star, and the first byte that it does not cover.
    let mut last_star = None;
    loop {
        let rest = &pattern[pattern_at..];
        if at == text.len() {
            return rest.iter().all(|byte| *byte == b'*');
        }
        if rest.first() == Some(&b'*') {
            pattern_at += 1;
            last_star = Some((pattern_at, at));
            continue;
        }
        match match_one(rest, text[at]) {
            Some(len) => {
                pattern_at += len;
                at += 1;
            }
            None => {
                let Some((behind, from)) = &mut last_star else { return false };
                *from += 1;
                (pattern_at, at) = (*behind, *from);
            }
        }
    }
}

/// How many bytes of the pattern match this one byte, if they do.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (len, is_in) = match_class(class, byte);
            is_in.then_some(1 + len)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// How long a class is, its `]` included, and whether a byte is in it.
fn match_class(class: &[u8], byte: u8) -> (usize, bool) {
    let is_negated = class.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_in = false;
    loop {
        match class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                is_in |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to, byte) = (from as i8, to as i8, byte as i8);
                is_in |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                is_in |= literal == byte;
                at += 1;
            }
        }
    }
    (at, is_in != is_negated)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: [(&str, &str, bool); 34] = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "", false),
            ("a", "", false),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeello", true),
            ("h*llo**", "hllo", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("*ab", "aab", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("[a-]", "-", false),
            ("[a-]]", "^", true),
            ("[]", "]", false),
            ("[]a", "a", false),
            ("[^]a", "xa", true),
            ("[\\]]", "]", true),
            ("[a\\-c]", "b", false),
            ("[abc", "b", true),
            ("[^abc", "b", false),
            ("[", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("user:[0-9]*", "user:42", true),
        ];
        for (pattern, text, expected) in cases {
            let matched = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(matched, expected, "{pattern} on {text}");
        }
        assert!(matches(b"[a-\xff]", b"b") == (b'b' as i8 <= b'a' as i8), "bytes count as signed");
    }

    #[test]
    fn stars_cost_no_more_than_the_product_of_the_lengths() {
        let pattern = b"a*".repeat(5_000);
        let text = b"a".repeat(20_000);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }

    /// The meaning of stars without any cleverness.
    fn matches_plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| matches_plainly(rest, &text[at..])),
            (_, []) => false,
            (_, [byte, rest @ ..]) => match match_one(pattern, *byte) {
                Some(len) => matches_plainly(&pattern[len..], rest),
                None => false,
            },
        }
    }

    proptest! {
        #[test]
        fn trying_the_last_star_alone_is_enough(
            pattern in vec(prop::sample::select(b"ab*?[]^-\\".to_vec()), 0..9),
            text in vec(prop::sample::select(b"ab]".to_vec()), 1..9),
        ) {
            prop_assert_eq!(matches(&pattern, &text), matches_plainly(&pattern, &text));
        }
    }
}
