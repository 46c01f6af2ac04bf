//! How deep brackets and dashes may be nested, before the parser sees them.
//!
//! The parser's time grows with the square of that depth: a hundred kilobytes of
//! `{a: {a: {a: ` would keep it busy for half a minute, and it tells nobody on
//! the way. So the brackets are counted here first, in one pass.
//!
//! The count never falls below the true depth but for the brackets it takes to
//! be hidden in quotes and comments, and those are bounded too:
//!
//! - a bracket closes for certain if it stands outside quotes, comments and tags:
//!   inside brackets it is then the parser's own token, and elsewhere, in plain
//!   or block text, the true depth is zero and the count stops there;
//! - what looks like a quote in block text may hide brackets that open; that is
//!   why the hidden ones are counted.

use super::Position;
use super::position;

/// Far more than any file needs, and no burden to the parser.
const OPEN_MAX: u32 = 256;

/// Opening brackets in quotes and comments.
const HIDDEN_MAX: u32 = 5_000;

/// Stands for a character that begins nothing and escapes nothing. No text holds
/// it: control characters are refused before.
const CLOSED: char = '\0';

/// What the scan is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Plain,
    Comment,
    /// From `!` to the next blank.
    Tag,
    /// In single or double quotes.
    Quotes(char),
}

/// The place where too many brackets are open, or where a line begins with too
/// many dashes, each of which opens a list inside the one before.
pub(super) fn too_deep(text: &str) -> Option<Position> {
    let (mut open, mut hidden) = (0u32, 0u32);
    let mut inside = Inside::Plain;
    let mut previous = ' ';
    for (line_index, line) in text.split('\n').enumerate() {
        let dashes =
            line.bytes().take_while(|byte| b" -?".contains(byte)).filter(|byte| *byte != b' ');
        if dashes.count() > OPEN_MAX as usize {
            return Some(position(line_index, 0));
        }
        for (column, c) in line.chars().enumerate() {
            // A quote, a tag or a comment only begins where a word can.
            let after_blank = matches!(previous, ' ' | '\t');
            let begins = after_blank || matches!(previous, '[' | '{' | ',' | ':');
            let mut seen = c;
            match (inside, c) {
                // A doubled single quote stands for one: closed, and open again.
                (Inside::Plain, '\'') if previous == CLOSED => inside = Inside::Quotes(c),
                (Inside::Plain, '\'' | '"') if begins => inside = Inside::Quotes(c),
                (Inside::Plain, '!') if begins => inside = Inside::Tag,
                (Inside::Plain, '#') if after_blank => inside = Inside::Comment,
                (Inside::Plain | Inside::Tag, '[' | '{') => open += 1,
                (Inside::Plain, ']' | '}') => open = open.saturating_sub(1),
                (Inside::Quotes(_) | Inside::Comment, '[' | '{') => hidden += 1,
                (Inside::Quotes('"'), '"') if previous == '\\' => {}
                (Inside::Quotes(quote), _) if c == quote => {
                    inside = Inside::Plain;
                    seen = CLOSED;
                }
                (Inside::Tag, ' ' | '\t') => inside = Inside::Plain,
                _ => {}
            }
            // A backslash that is itself escaped escapes nothing.
            previous = if c == '\\' && previous == '\\' { CLOSED } else { seen };
            if open > OPEN_MAX || hidden > HIDDEN_MAX {
                return Some(position(line_index, column));
            }
        }
        previous = ' ';
        if matches!(inside, Inside::Comment | Inside::Tag) {
            inside = Inside::Plain;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_that_only_look_closed_are_open() {
        for unit in [
            "[",
            "{a: ",
            "[ #]\n",
            "[']',",
            "[\"]\",",
            "[\"\\\"]\",",
            "[!<]> ",
            "[!]\n",
            "['''''',",
        ] {
            assert!(too_deep(&unit.repeat(300)).is_some(), "{unit:?}");
        }
        assert!(too_deep(&"- ".repeat(300)).is_some());
        let hidden = format!("a: |\n  it '\nb: {}", "[".repeat(6_000));
        assert!(too_deep(&hidden).is_some());
    }

    #[test]
    fn what_people_write_is_not_too_deep() {
        for unit in [
            "- { name: a, match: { path: /a/** }, limits: [{ quota: 1, window: 1s }] }\n",
            "a: 'it''s ['\nb: \"\\\\\"\nc: {}\n",
            "a: don't [b]\n",
            "a: [] # }\n",
            "a: b]\n",
            "a: 5 o'clock\nb: [c]\n",
        ] {
            assert_eq!(too_deep(&unit.repeat(1_000)), None, "{unit:?}");
        }
    }
}
