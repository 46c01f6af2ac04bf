//! Lua's patterns, matched within a budget.
//!
//! A backtracking matcher can take longer than anyone lives, and Lua's own cannot
//! be interrupted. This one counts its steps and asks now and then whether it may
//! go on. What it finds is what Lua 5.1 finds, errors included.
//!
//! A pattern ends at its first zero byte, as in C.

use std::ffi::c_int;

use super::context::Context;
use super::raw::State;

/// Parentheses in a pattern.
pub(super) const CAPTURE_COUNT_MAX: usize = 32;

/// Steps between two questions whether to go on.
const STEPS_PER_CHECK: u32 = 10_000;

/// How deep a match may call itself: an item with a quantifier is a level.
const DEPTH_MAX: u32 = 1000;

/// Why nothing was found, and nothing can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// In Lua's words.
    Pattern(&'static str),
    /// The time is up.
    Stopped,
}

/// One pair of parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) start: usize,
    pub(super) len: CaptureLen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureLen {
    /// Not yet closed.
    Open,
    /// `()`: the place is wanted, not the text.
    Position,
    Bytes(usize),
}

/// Matches one pattern at one place after another.
pub(super) struct Matcher<'a> {
    subject: &'a [u8],
    pattern: &'a [u8],
    captures: [Capture; CAPTURE_COUNT_MAX],
    level: usize,
    depth: u32,
    steps: u32,
    may_go_on: &'a mut dyn FnMut() -> bool,
}

type Found = Result<Option<usize>, Fault>;

impl<'a> Matcher<'a> {
    /// A matcher for `pattern`, without its leading `^`.
    pub(super) fn new(
        subject: &'a [u8],
        pattern: &'a [u8],
        may_go_on: &'a mut dyn FnMut() -> bool,
    ) -> Matcher<'a> {
        let pattern = pattern.split(|it| *it == 0).next().unwrap_or_default();
        let none = Capture { start: 0, len: CaptureLen::Open };
        Matcher {
            subject,
            pattern,
            captures: [none; CAPTURE_COUNT_MAX],
            level: 0,
            depth: 0,
            steps: 0,
            may_go_on,
        }
    }

    /// The end of a match that begins at `at`.
    pub(super) fn match_at(&mut self, at: usize) -> Found {
        self.level = 0;
        self.depth = 0;
        self.run(at, 0)
    }

    /// What the parentheses hold.
    pub(super) fn captures(&self) -> &[Capture] {
        &self.captures[..self.level]
    }

    fn step(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        match self.steps.is_multiple_of(STEPS_PER_CHECK) && !(self.may_go_on)() {
            true => Err(Fault::Stopped),
            false => Ok(()),
        }
    }

    /// Matches the pattern from `p` on against the subject from `s` on.
    fn run(&mut self, s: usize, p: usize) -> Found {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::Pattern("pattern too complex"));
        }
        let found = self.run_items(s, p);
        self.depth -= 1;
        found
    }

    fn run_items(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            match self.pattern.get(p..).unwrap_or_default() {
                [] => return Ok(Some(s)),
                [b'(', b')', ..] => return self.open(s, p + 2, CaptureLen::Position),
                [b'(', ..] => return self.open(s, p + 1, CaptureLen::Open),
                [b')', ..] => return self.close(s, p + 1),
                [b'$'] => return Ok((s == self.subject.len()).then_some(s)),
                [b'%', b'b', ..] => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                [b'%', b'f', ..] => match self.frontier(s, p + 2)? {
                    Some(end) => p = end,
                    None => return Ok(None),
                },
                [b'%', digit, ..] if digit.is_ascii_digit() => match self.again(s, *digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.class_end(p)?;
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if self.is_single(s, p, end)
                                && let Some(found) = self.run(s + 1, end + 1)?
                            {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.greedy(s, p, end),
                        Some(b'+') if self.is_single(s, p, end) => {
                            return self.greedy(s + 1, p, end);
                        }
                        Some(b'+') => return Ok(None),
                        Some(b'-') => return self.lazy(s, p, end),
                        _ if self.is_single(s, p, end) => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// `x*`: as many as there are, then fewer.
    fn greedy(&mut self, s: usize, p: usize, end: usize) -> Found {
        let mut count = 0;
        while self.is_single(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.run(s + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// `x-`: none, then more.
    fn lazy(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.is_single(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, len: CaptureLen) -> Found {
        if self.level >= CAPTURE_COUNT_MAX {
            return Err(Fault::Pattern("too many captures"));
        }
        self.captures[self.level] = Capture { start: s, len };
        self.level += 1;
        let found = self.run(s, p)?;
        if found.is_none() {
            self.level -= 1;
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Found {
        let open = self.captures[..self.level].iter().rposition(|it| it.len == CaptureLen::Open);
        let index = open.ok_or(Fault::Pattern("invalid pattern capture"))?;
        self.captures[index].len = CaptureLen::Bytes(s - self.captures[index].start);
        let found = self.run(s, p)?;
        if found.is_none() {
            self.captures[index].len = CaptureLen::Open;
        }
        Ok(found)
    }

    /// `%1`: what a capture holds, once more.
    fn again(&self, s: usize, digit: u8) -> Found {
        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
        let invalid = Fault::Pattern("invalid capture index");
        let capture = self.captures().get(index).ok_or(invalid)?;
        let len = match capture.len {
            CaptureLen::Bytes(len) => len,
            // Lua compares its mark for a position as a length no text has.
            CaptureLen::Position => return Ok(None),
            CaptureLen::Open => return Err(invalid),
        };
        let held = &self.subject[capture.start..capture.start + len];
        Ok(self.subject[s..].starts_with(held).then_some(s + len))
    }

    /// `%bxy`: up to the `y` that closes the `x` here.
    fn balanced(&mut self, s: usize, p: usize) -> Found {
        let Some(&[open, shut]) = self.pattern.get(p..p + 2) else {
            return Err(Fault::Pattern("unbalanced pattern"));
        };
        if self.subject.get(s) != Some(&open) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        for at in s + 1..self.subject.len() {
            self.step()?;
            if self.subject[at] == shut {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if self.subject[at] == open {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: the border between what is not in the set and what is. Says where
    /// the pattern goes on.
    fn frontier(&self, s: usize, p: usize) -> Found {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(Fault::Pattern("missing '[' after '%f' in pattern"));
        }
        let end = self.class_end(p)?;
        let before = if s == 0 { 0 } else { self.subject[s - 1] };
        let here = self.subject.get(s).copied().unwrap_or(0);
        let is_border = !self.in_set(before, p, end - 1) && self.in_set(here, p, end - 1);
        Ok(is_border.then_some(end))
    }

    /// Where the single item at `p` ends.
    fn class_end(&self, p: usize) -> Result<usize, Fault> {
        match self.pattern[p] {
            b'%' if p + 1 >= self.pattern.len() => {
                Err(Fault::Pattern("malformed pattern (ends with '%')"))
            }
            b'%' => Ok(p + 2),
            b'[' => {
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                loop {
                    // A bracket that comes first stands for itself.
                    let byte = self.pattern.get(at);
                    let byte = byte.ok_or(Fault::Pattern("malformed pattern (missing ']')"))?;
                    at += 1;
                    if *byte == b'%' && at < self.pattern.len() {
                        at += 1;
                    }
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    fn is_single(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else { return false };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end - 1),
            literal => literal == byte,
        }
    }

    /// True if `byte` is in the set whose `[` is at `p` and whose `]` is at `last`.
    fn in_set(&self, byte: u8, p: usize, last: usize) -> bool {
        let mut at = p + 1;
        let mut hit = true;
        if self.pattern.get(at) == Some(&b'^') {
            hit = false;
            at += 1;
        }
        while at < last {
            match self.pattern[at] {
                b'%' => {
                    at += 1;
                    if in_class(byte, self.pattern[at]) {
                        return hit;
                    }
                    at += 1;
                }
                from if self.pattern[at + 1] == b'-' && at + 2 < last => {
                    if (from..=self.pattern[at + 2]).contains(&byte) {
                        return hit;
                    }
                    at += 3;
                }
                literal => {
                    if literal == byte {
                        return hit;
                    }
                    at += 1;
                }
            }
        }
        !hit
    }
}

/// `%a` and its like; what is no class stands for itself.
fn in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 11,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in != class.is_ascii_uppercase()
}

/// Raises what stopped a match, with the position `level` calls up.
pub(super) fn raise(state: State, context: &Context, level: c_int, fault: Fault) -> ! {
    match fault {
        Fault::Pattern(text) => state.raise_text_at(level, text.as_bytes()),
        Fault::Stopped => super::api::end(state, context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole match and its captures at the first place where there is one.
    fn find(subject: &str, pattern: &str) -> Result<Option<Vec<String>>, Fault> {
        let mut steps_left = 100;
        let mut may_go_on = || {
            steps_left -= 1;
            steps_left > 0
        };
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let (pattern, is_anchored) = match pattern.strip_prefix(b"^") {
            Some(rest) => (rest, true),
            None => (pattern, false),
        };
        let mut matcher = Matcher::new(subject, pattern, &mut may_go_on);
        for at in 0..=subject.len() {
            if let Some(end) = matcher.match_at(at)? {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let mut found = vec![text(&subject[at..end])];
                for capture in matcher.captures() {
                    found.push(match capture.len {
                        CaptureLen::Bytes(len) => text(&subject[capture.start..][..len]),
                        CaptureLen::Position => (capture.start + 1).to_string(),
                        CaptureLen::Open => return Err(Fault::Pattern("unfinished capture")),
                    });
                }
                return Ok(Some(found));
            }
            if is_anchored {
                break;
            }
        }
        Ok(None)
    }

    #[test]
    fn patterns_find_what_lua_finds() {
        let cases: [(&str, &str, &[&str]); 28] = [
            ("hello world", "o w", &["o w"]),
            ("hello", "l+", &["ll"]),
            ("hello", "^h.-l", &["hel"]),
            ("hello", "^e", &[]),
            ("hello", "lo$", &["lo"]),
            ("a$b", "$b", &["$b"]),
            ("key = value", "(%w+)%s*=%s*(%w+)", &["key = value", "key", "value"]),
            ("abc", "()b()", &["b", "2", "3"]),
            ("f(a(b)c)d", "%b()", &["(a(b)c)"]),
            ("THE (quick) fox", "%f[%a]%a+%f[%A]", &["THE"]),
            ("x]y", "[]]", &["]"]),
            ("x-y", "[a%-]", &["-"]),
            ("x-y", "[x-]", &["x"]),
            ("5", "[^%d]", &[]),
            ("abcabc", "(abc)%1", &["abcabc", "abc"]),
            ("aXb", "%u", &["X"]),
            ("a.b", "%.", &["."]),
            ("", ".*", &[""]),
            ("abc", "", &[""]),
            ("aaa", "a-$", &["aaa"]),
            ("abc", "b?c", &["bc"]),
            ("ac", "ab?c", &["ac"]),
            ("2024-01-02", "(%d+)-(%d+)-(%d+)", &["2024-01-02", "2024", "01", "02"]),
            ("\u{b}", "%s", &["\u{b}"]),
            ("a\0b", "%z", &["\0"]),
            ("key", "^(k)(e)(y)$", &["key", "k", "e", "y"]),
            ("[[x]]", "%[%[(.-)%]%]", &["[[x]]", "x"]),
            ("0xFF", "0x(%x+)", &["0xFF", "FF"]),
        ];
        for (subject, pattern, expected) in cases {
            let found = find(subject, pattern).unwrap().unwrap_or_default();
            assert_eq!(found, expected, "{subject:?} {pattern:?}");
        }
    }

    #[test]
    fn odd_patterns_are_told_in_luas_words() {
        for (pattern, text) in [
            ("%", "malformed pattern (ends with '%')"),
            ("[a", "malformed pattern (missing ']')"),
            ("[", "malformed pattern (missing ']')"),
            ("[%", "malformed pattern (missing ']')"),
            ("%b", "unbalanced pattern"),
            ("%f", "missing '[' after '%f' in pattern"),
            ("a)", "invalid pattern capture"),
            ("%1", "invalid capture index"),
            ("(a", "unfinished capture"),
        ] {
            assert_eq!(find("a", pattern), Err(Fault::Pattern(text)), "{pattern}");
        }
        let many = "()".repeat(33);
        assert_eq!(find("a", &many), Err(Fault::Pattern("too many captures")));
        let deep = "a?".repeat(100_000);
        assert_eq!(find(&"a".repeat(100_000), &deep), Err(Fault::Pattern("pattern too complex")));
    }

    #[test]
    fn a_match_that_would_never_end_is_stopped() {
        let (subject, pattern) = ("a".repeat(40), format!("{}{}", "a?".repeat(40), "a".repeat(40)));
        assert_eq!(find(&subject, &format!("{pattern}b")), Err(Fault::Stopped));
        assert_eq!(
            find(&"a".repeat(2000), &".-".repeat(10).repeat(2).replace(".-.-", ".-a.-b")),
            Err(Fault::Stopped)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(subject in "[ab()%.]{0,20}", pattern in "[ab%\\[\\]().*+?^$1fb-]{0,12}") {
            let _ = find(&subject, &pattern);
        }
    }
}
