//! The functions of `string` that Lua's own would not interrupt or would answer
//! otherwise than Lua 5.1: searching, replacing and formatting.
//!
//! `gsub` with a function or a table calls back into Lua; that half is in
//! `sandbox.lua`, on top of `match_from`.

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::context::Context;
use super::number::Printed;
use super::pattern::{self, Capture, CaptureLen, Matcher};
use super::raw::{Native, State};

/// The functions by the names that `sandbox.lua` knows.
const FUNCTIONS: [(&CStr, Native); 6] = [
    (c"find", find),
    (c"match", match_first),
    (c"match_from", match_from),
    (c"replace", replace),
    (c"format", format),
    (c"starts_match", starts_match),
];

/// Who is told where an error is: the caller of a function that scripts call, and
/// the caller of that caller for one that `sandbox.lua` calls in their place.
const DIRECT: c_int = 1;
const THROUGH_SANDBOX: c_int = 2;

/// What makes a text a pattern.
const SPECIALS: &[u8] = b"^$*+?.([%-";

/// Pushes a table of the functions.
pub(super) fn push_library(state: State, context: *mut Context) {
    state.push_table(0, FUNCTIONS.len());
    for (name, native) in FUNCTIONS {
        state.push_native(native, context);
        state.set_field(name);
    }
}

/// `find(subject, pattern, start, plain)`
unsafe extern "C-unwind" fn find(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let subject = state.text_argument(1);
    let pattern = state.text_argument(2);
    let start = start_of(state, 3, subject.len());
    let c_text = pattern.split(|it| *it == 0).next().unwrap_or_default();
    if state.boolean(4) || !c_text.iter().any(|it| SPECIALS.contains(it)) {
        return match memchr::memmem::find(&subject[start..], pattern) {
            Some(at) => {
                state.push_number((start + at + 1) as f64);
                state.push_number((start + at + pattern.len()) as f64);
                2
            }
            None => nothing(state),
        };
    }
    match search(state, context, subject, pattern, start) {
        None => nothing(state),
        Some(found) => {
            state.push_number((found.start + 1) as f64);
            state.push_number(found.end as f64);
            2 + found.push_captures(state, DIRECT, subject)
        }
    }
}

/// `match(subject, pattern, start)`
unsafe extern "C-unwind" fn match_first(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let subject = state.text_argument(1);
    let pattern = state.text_argument(2);
    let start = start_of(state, 3, subject.len());
    match search(state, context, subject, pattern, start) {
        None => nothing(state),
        Some(found) => found.push_match(state, DIRECT, subject),
    }
}

/// `match_from(subject, pattern, from)`: first and last place of the next match
/// from the place `from` on, and its captures; the match itself if it has none.
/// `^` means nothing here.
unsafe extern "C-unwind" fn match_from(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let subject = state.bytes(1);
    let pattern = state.bytes(2);
    let start = (state.number(3) as usize).saturating_sub(1);
    match search_from(state, context, THROUGH_SANDBOX, subject, pattern, start, false) {
        None => nothing(state),
        Some(found) => {
            state.push_number((found.start + 1) as f64);
            state.push_number(found.end as f64);
            2 + found.push_match(state, THROUGH_SANDBOX, subject)
        }
    }
}

/// `starts_match(subject, pattern)`: like `match_from`, of a match that begins at
/// the first place.
unsafe extern "C-unwind" fn starts_match(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let subject = state.bytes(1);
    match search_from(state, context, THROUGH_SANDBOX, subject, state.bytes(2), 0, true) {
        None => nothing(state),
        Some(found) => {
            state.push_number((found.start + 1) as f64);
            state.push_number(found.end as f64);
            2 + found.push_match(state, THROUGH_SANDBOX, subject)
        }
    }
}

/// `replace(subject, pattern, replacement, count_max)`: `gsub` with a text.
unsafe extern "C-unwind" fn replace(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let subject = state.bytes(1);
    let (pattern, is_anchored) = anchor_of(state.bytes(2));
    let replacement = state.bytes(3);
    let count_max = state.number(4);
    let (mut at, mut count) = (0, 0.0);
    context.text.clear();
    while count < count_max {
        let mut may_go_on = || !context.is_over();
        let mut matcher = Matcher::new(subject, pattern, &mut may_go_on);
        let found = match matcher.match_at(at) {
            Ok(found) => found.map(|end| Found::of(&matcher, at, end)),
            Err(fault) => pattern::raise(state, context, THROUGH_SANDBOX, fault),
        };
        if let Some(found) = found {
            count += 1.0;
            found.add_replacement(state, context, subject, replacement);
        }
        match found {
            Some(found) if found.end > at => at = found.end,
            _ if at < subject.len() => {
                context.add_text(state, &subject[at..=at]);
                at += 1;
            }
            _ => break,
        }
        if is_anchored {
            break;
        }
    }
    context.add_text(state, &subject[at..]);
    state.push_bytes(&context.text);
    state.push_number(count);
    2
}

fn nothing(state: State) -> c_int {
    state.push_nil();
    1
}

/// Where to begin: 1 is the first place, -1 the last.
fn start_of(state: State, index: c_int, len: usize) -> usize {
    let place = state.integer_argument_or(index, 1);
    let from_end = || len.saturating_sub(usize::try_from(place.unsigned_abs()).unwrap_or(len));
    match usize::try_from(place) {
        Ok(place) => place.saturating_sub(1).min(len),
        Err(_negative) => from_end(),
    }
}

fn anchor_of(pattern: &[u8]) -> (&[u8], bool) {
    match pattern.strip_prefix(b"^") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    }
}

/// A match, with what its parentheses hold.
#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    captures: [Capture; pattern::CAPTURE_COUNT_MAX],
    capture_count: usize,
}

fn search(
    state: State,
    context: &mut Context,
    subject: &[u8],
    pattern: &[u8],
    start: usize,
) -> Option<Found> {
    let (pattern, is_anchored) = anchor_of(pattern);
    search_from(state, context, DIRECT, subject, pattern, start, is_anchored)
}

fn search_from(
    state: State,
    context: &mut Context,
    level: c_int,
    subject: &[u8],
    pattern: &[u8],
    start: usize,
    is_anchored: bool,
) -> Option<Found> {
    let mut may_go_on = || !context.is_over();
    let mut matcher = Matcher::new(subject, pattern, &mut may_go_on);
    let last = if is_anchored { start } else { subject.len() };
    for at in start..=last {
        match matcher.match_at(at) {
            Ok(Some(end)) => return Some(Found::of(&matcher, at, end)),
            Ok(None) => {}
            Err(fault) => pattern::raise(state, context, level, fault),
        }
    }
    None
}

impl Found {
    fn of(matcher: &Matcher<'_>, start: usize, end: usize) -> Found {
        let mut captures = [Capture { start, len: CaptureLen::Bytes(end - start) }; 32];
        let held = matcher.captures();
        captures[..held.len()].copy_from_slice(held);
        Found { start, end, captures, capture_count: held.len() }
    }

    /// Pushes what the parentheses hold.
    fn push_captures(&self, state: State, level: c_int, subject: &[u8]) -> c_int {
        if !state.reserve(self.capture_count as c_int) {
            state.raise_text_at(level, b"stack overflow (too many captures)");
        }
        for capture in &self.captures[..self.capture_count] {
            match capture.len {
                CaptureLen::Bytes(len) => state.push_bytes(&subject[capture.start..][..len]),
                CaptureLen::Position => state.push_number((capture.start + 1) as f64),
                CaptureLen::Open => state.raise_text_at(level, b"unfinished capture"),
            }
        }
        self.capture_count as c_int
    }

    /// Pushes what the parentheses hold, or the match if there are none.
    fn push_match(&self, state: State, level: c_int, subject: &[u8]) -> c_int {
        if self.capture_count == 0 {
            state.push_bytes(&subject[self.start..self.end]);
            return 1;
        }
        self.push_captures(state, level, subject)
    }

    /// Adds the replacement, in which `%1` stands for what a capture holds.
    fn add_replacement(
        &self,
        state: State,
        context: &mut Context,
        subject: &[u8],
        replacement: &[u8],
    ) {
        let mut rest = replacement;
        while let Some(percent) = memchr::memchr(b'%', rest) {
            context.add_text(state, &rest[..percent]);
            match rest.get(percent + 1) {
                Some(b'0') => context.add_text(state, &subject[self.start..self.end]),
                Some(digit @ b'1'..=b'9') => {
                    let index = usize::from(digit - b'1');
                    if index >= self.capture_count.max(1) {
                        state.raise_text_at(THROUGH_SANDBOX, b"invalid capture index");
                    }
                    self.add_capture(state, context, subject, index);
                }
                Some(other) => context.add_text(state, &[*other]),
                // What C finds behind the last character is a zero.
                None => context.add_text(state, &[0]),
            }
            rest = rest.get(percent + 2..).unwrap_or_default();
        }
        context.add_text(state, rest);
    }

    fn add_capture(&self, state: State, context: &mut Context, subject: &[u8], index: usize) {
        let capture = self.captures[index];
        match capture.len {
            CaptureLen::Bytes(len) => context.add_text(state, &subject[capture.start..][..len]),
            CaptureLen::Position => {
                let text = Printed::general((capture.start + 1) as f64, 14);
                context.add_text(state, &text);
            }
            CaptureLen::Open => state.raise_text_at(THROUGH_SANDBOX, b"unfinished capture"),
        }
    }
}

/// `format(format, …)`
unsafe extern "C-unwind" fn format(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let mut rest = state.text_argument(1);
    let mut argument = 1;
    context.text.clear();
    while let Some(percent) = memchr::memchr(b'%', rest) {
        context.add_text(state, &rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix(b"%") {
            context.add_text(state, b"%");
            rest = after;
            continue;
        }
        argument += 1;
        if state.is_none(argument) {
            state.raise_argument(argument, c"no value");
        }
        let spec = Spec::parse(state, &mut rest);
        spec.add(state, context, argument);
    }
    context.add_text(state, rest);
    state.push_bytes(&context.text);
    1
}

/// One conversion of a format: `%-5.2f` without its percent sign.
struct Spec<'f> {
    /// Flags, width and precision.
    modifiers: &'f [u8],
    conversion: u8,
}

impl<'f> Spec<'f> {
    fn parse(state: State, rest: &mut &'f [u8]) -> Spec<'f> {
        let text = *rest;
        let digits = |from: usize| {
            let count = text[from..].iter().take_while(|it| it.is_ascii_digit()).count();
            if count > 2 {
                state.raise_text(b"invalid format (width or precision too long)");
            }
            from + count
        };
        let flags = text.iter().take_while(|it| b"-+ #0".contains(it)).count();
        if flags > 5 {
            state.raise_text(b"invalid format (repeated flags)");
        }
        let mut at = digits(flags);
        if text.get(at) == Some(&b'.') {
            at = digits(at + 1);
        }
        let conversion = text.get(at).copied().unwrap_or(0);
        *rest = text.get(at + 1..).unwrap_or_default();
        Spec { modifiers: &text[..at], conversion }
    }

    fn add(&self, state: State, context: &mut Context, argument: c_int) {
        match self.conversion {
            b'c' => {
                let code = state.number_argument(argument) as i64 as u8;
                context.add_text(state, &[code]);
            }
            b'd' | b'i' => {
                let value = state.number_argument(argument) as i64;
                self.add_integer(state, context, value);
            }
            b'o' | b'u' | b'x' | b'X' => {
                let value = state.number_argument(argument);
                let value = if value < 0.0 { value as i64 } else { value as u64 as i64 };
                self.add_integer(state, context, value);
            }
            b'e' | b'E' | b'f' | b'g' | b'G' => {
                let value = state.number_argument(argument);
                let mut format = [0; 16];
                let format = self.c_format(b"", &mut format);
                // SAFETY: the format has this one conversion, for a double.
                let text = unsafe { Printed::double(format, value) };
                context.add_text(state, &text);
            }
            b'q' => add_quoted(state, context, state.text_argument(argument)),
            b's' => self.add_string(state, context, state.text_argument(argument)),
            other => {
                context.text.clear();
                let shown: &[u8] = if other == 0 { b"" } else { &[other] };
                context.text.extend_from_slice(b"invalid option '%");
                context.text.extend_from_slice(shown);
                let written = write!(context.text, "' to 'format'");
                debug_assert!(written.is_ok(), "a vector takes every byte");
                state.raise_text(&context.text)
            }
        }
    }

    fn add_integer(&self, state: State, context: &mut Context, value: i64) {
        let mut format = [0; 16];
        let format = self.c_format(b"l", &mut format);
        // SAFETY: the format has this one conversion, for a long.
        let text = unsafe { Printed::integer(format, value) };
        context.add_text(state, &text);
    }

    /// `%s`: cut to the precision, filled up to the width.
    fn add_string(&self, state: State, context: &mut Context, text: &[u8]) {
        let flags = self.modifiers.iter().take_while(|it| b"-+ #0".contains(it)).count();
        let (flags, sizes) = self.modifiers.split_at(flags);
        let mut sizes = sizes.split(|it| *it == b'.');
        let number = |digits: Option<&[u8]>| -> Option<usize> {
            digits
                .map(|it| std::str::from_utf8(it).ok().and_then(|it| it.parse().ok()).unwrap_or(0))
        };
        let (width, precision) = (number(sizes.next()).unwrap_or(0), number(sizes.next()));
        if precision.is_none() && text.len() >= 100 {
            // No width is larger, so nothing would change.
            return context.add_text(state, text);
        }
        let text = text.split(|it| *it == 0).next().unwrap_or_default();
        let text = &text[..precision.unwrap_or(text.len()).min(text.len())];
        let fill = width.saturating_sub(text.len());
        let is_left = flags.contains(&b'-');
        if is_left {
            context.add_text(state, text);
        }
        for _ in 0..fill {
            context.add_text(state, b" ");
        }
        if !is_left {
            context.add_text(state, text);
        }
    }

    /// The conversion for C: at most five flags, two sizes of two digits, a length.
    fn c_format<'b>(&self, length: &[u8], buffer: &'b mut [u8; 16]) -> &'b CStr {
        let parts = [b"%", self.modifiers, length, &[self.conversion][..]];
        let mut at = 0;
        for byte in parts.into_iter().flatten() {
            if let Some(place) = buffer.get_mut(at) {
                *place = *byte;
            }
            at += 1;
        }
        debug_assert!(at < buffer.len(), "the last byte stays zero");
        CStr::from_bytes_until_nul(buffer).unwrap_or_default()
    }
}

/// `%q`: as Lua would read it again.
fn add_quoted(state: State, context: &mut Context, text: &[u8]) {
    context.add_text(state, b"\"");
    for byte in text {
        match byte {
            b'"' | b'\\' | b'\n' => context.add_text(state, &[b'\\', *byte]),
            b'\r' => context.add_text(state, b"\\r"),
            0 => context.add_text(state, b"\\000"),
            _ => context.add_text(state, &[*byte]),
        }
    }
    context.add_text(state, b"\"");
}
