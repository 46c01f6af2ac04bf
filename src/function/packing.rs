//! `struct`: values to bytes and back by a format, as the library in Redis does
//! it.
//!
//! ```text
//! b B h H l L i[n] I[n] T   integers, signed in lower case
//! f d                       floats
//! s  c[n]                   text with a zero, text of n bytes (c0: by the number before)
//! x  > < = !n               a zero, byte order, alignment
//! ```

#![allow(unsafe_code, reason = "native functions of Lua")]

use std::ffi::{CStr, c_int};
use std::io::Write as _;

use mlua::ffi::lua_State;

use super::context::Context;
use super::raw::{Kind, Native, State};

const FUNCTIONS: [(&CStr, Native); 3] = [(c"pack", pack), (c"unpack", unpack), (c"size", size)];

/// Widest integer.
const INTEGER_BYTES_MAX: usize = 32;

/// Pushes a table of the library's functions.
pub(super) fn push_library(state: State, context: *mut Context) {
    state.push_table(0, FUNCTIONS.len());
    for (name, native) in FUNCTIONS {
        state.push_native(native, context);
        state.set_field(name);
    }
}

/// Walks a format.
struct Format<'f> {
    state: State,
    rest: &'f [u8],
    big_endian: bool,
    alignment: usize,
}

/// One option of a format that stands for bytes.
#[derive(Clone, Copy, Debug)]
struct Field {
    option: u8,
    size: usize,
    /// Zeros before it.
    padding: usize,
}

impl<'f> Format<'f> {
    fn new(state: State, rest: &'f [u8]) -> Format<'f> {
        // C's strings end at a zero.
        let rest = rest.split(|it| *it == 0).next().unwrap_or_default();
        Format { state, rest, big_endian: false, alignment: 1 }
    }

    /// The next field, `at` bytes into the data. Raises at an odd option.
    fn next(&mut self, context: &mut Context, at: usize) -> Option<Field> {
        loop {
            let (&option, rest) = self.rest.split_first()?;
            self.rest = rest;
            let size = match option {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'f' => 4,
                b'l' | b'L' | b'T' | b'd' => 8,
                b's' => 0,
                b'c' => self.number(1),
                b'i' | b'I' => {
                    let size = self.number(4);
                    if size > INTEGER_BYTES_MAX {
                        fail(
                            self.state,
                            context,
                            format_args!(
                                "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                            ),
                        );
                    }
                    size
                }
                other => {
                    self.control(context, other);
                    continue;
                }
            };
            let padding = self.padding(option, size, at);
            return Some(Field { option, size, padding });
        }
    }

    fn control(&mut self, context: &mut Context, option: u8) {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number(8);
                if !alignment.is_power_of_two() {
                    fail(
                        self.state,
                        context,
                        format_args!("alignment {alignment} is not a power of 2"),
                    );
                }
                self.alignment = alignment;
            }
            option => {
                context.text.clear();
                context.text.extend_from_slice(b"invalid format option '");
                context.text.extend_from_slice(&[option, b'\'', 0]);
                let text = CStr::from_bytes_until_nul(&context.text).unwrap_or_default();
                self.state.raise_argument(1, text);
            }
        }
    }

    fn number(&mut self, default: usize) -> usize {
        let digits = self.rest.iter().position(|it| !it.is_ascii_digit());
        let (digits, rest) = self.rest.split_at(digits.unwrap_or(self.rest.len()));
        self.rest = rest;
        if digits.is_empty() {
            return default;
        }
        let number = std::str::from_utf8(digits).ok().and_then(|it| it.parse::<i32>().ok());
        match number.and_then(|it| usize::try_from(it).ok()) {
            Some(number) => number,
            None => self.state.raise_text(b"integral size overflow"),
        }
    }

    fn padding(&self, option: u8, size: usize, at: usize) -> usize {
        let step = size.min(self.alignment);
        if step == 0 || option == b'c' || !step.is_power_of_two() {
            return 0;
        }
        step.wrapping_sub(at & (step - 1)) & (step - 1)
    }
}

/// `pack(format, value, …)`
unsafe extern "C-unwind" fn pack(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let mut format = Format::new(state, state.text_argument(1));
    let mut argument = 1;
    context.text.clear();
    loop {
        let packed_len = context.text.len();
        let Some(field) = format.next(context, packed_len) else { break };
        for _ in 0..field.padding {
            context.add_text(state, &[0]);
        }
        if field.option != b'x' {
            argument += 1;
        }
        match field.option {
            b'x' => context.add_text(state, &[0]),
            b'f' => {
                let value = state.number_argument(argument) as f32;
                add_ordered(state, context, value.to_le_bytes(), format.big_endian);
            }
            b'd' => {
                let value = state.number_argument(argument);
                add_ordered(state, context, value.to_le_bytes(), format.big_endian);
            }
            b's' | b'c' => {
                let text = state.text_argument(argument);
                let len = if field.size == 0 { text.len() } else { field.size };
                let Some(text) = text.get(..len) else {
                    // The library has counted the argument before it complains.
                    state.raise_argument(argument + 1, c"string too short");
                };
                context.add_text(state, text);
                if field.option == b's' {
                    context.add_text(state, &[0]);
                }
            }
            _ => {
                let value = bits_of(state.number_argument(argument));
                let mut bytes = [0; INTEGER_BYTES_MAX];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                let bytes = &mut bytes[..field.size];
                if format.big_endian {
                    bytes.reverse();
                }
                context.add_text(state, bytes);
            }
        }
    }
    state.push_bytes(&context.text);
    1
}

/// A number as C casts it to a long, negative or not.
fn bits_of(value: f64) -> u64 {
    if value < 0.0 { value as i64 as u64 } else { value as u64 }
}

fn add_ordered<const LEN: usize>(
    state: State,
    context: &mut Context,
    mut bytes: [u8; LEN],
    big_endian: bool,
) {
    if big_endian {
        bytes.reverse();
    }
    context.add_text(state, &bytes);
}

/// `unpack(format, text, position)`: the values, and the position behind them.
unsafe extern "C-unwind" fn unpack(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let mut format = Format::new(state, state.text_argument(1));
    let text = state.text_argument(2);
    let position = state.integer_argument_or(3, 1);
    let Some(mut at) = usize::try_from(position).ok().and_then(|it| it.checked_sub(1)) else {
        state.raise_argument(3, c"offset must be 1 or greater");
    };
    let mut count = 0;
    while let Some(field) = format.next(context, at) {
        at = at.saturating_add(field.padding);
        let Some(bytes) = at.checked_add(field.size).and_then(|end| text.get(at..end)) else {
            state.raise_argument(2, c"data string too short");
        };
        if !state.reserve(2) {
            state.raise_text(b"stack overflow (too many results)");
        }
        let mut len = field.size;
        match field.option {
            b'x' => count -= 1,
            b'f' => state.push_number(f64::from(f32::from_le_bytes(ordered(bytes, &format)))),
            b'd' => state.push_number(f64::from_le_bytes(ordered(bytes, &format))),
            b'c' if field.size == 0 => {
                if count == 0 || state.kind(-1) != Kind::Number {
                    state.raise_text(b"format 'c0' needs a previous size");
                }
                len = usize::try_from(bits_of(state.number(-1))).unwrap_or(usize::MAX);
                state.pop(1);
                count -= 1;
                match at.checked_add(len).and_then(|end| text.get(at..end)) {
                    Some(bytes) => state.push_bytes(bytes),
                    None => state.raise_argument(2, c"data string too short"),
                }
            }
            b'c' => state.push_bytes(bytes),
            b's' => {
                let rest = &text[at..];
                let Some(end) = rest.iter().position(|it| *it == 0) else {
                    state.raise_text(b"unfinished string in data");
                };
                state.push_bytes(&rest[..end]);
                len = end + 1;
            }
            option => state.push_number(integer(bytes, option, format.big_endian)),
        }
        count += 1;
        at += len;
    }
    state.push_number((at + 1) as f64);
    count + 1
}

fn ordered<const LEN: usize>(bytes: &[u8], format: &Format<'_>) -> [u8; LEN] {
    let mut ordered = [0; LEN];
    ordered.copy_from_slice(bytes);
    if format.big_endian {
        ordered.reverse();
    }
    ordered
}

/// The integer in `bytes`. Of more than eight the last ones count, as in C.
fn integer(bytes: &[u8], option: u8, big_endian: bool) -> f64 {
    let push = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    let value = match big_endian {
        true => bytes.iter().fold(0, push),
        false => bytes.iter().rev().fold(0, push),
    };
    if !option.is_ascii_lowercase() {
        return value as f64;
    }
    let shift = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    ((value << shift) as i64 >> shift) as f64
}

/// `size(format)`: how many bytes the format takes.
unsafe extern "C-unwind" fn size(lua: *mut lua_State) -> c_int {
    // SAFETY: pushed with the context; entered once.
    let (state, context) = unsafe { State::entered(lua) };
    let mut format = Format::new(state, state.text_argument(1));
    let mut at = 0_usize;
    while let Some(field) = format.next(context, at) {
        if field.option == b's' {
            state.raise_argument(1, c"option 's' has no fixed size");
        } else if field.option == b'c' && field.size == 0 {
            state.raise_argument(1, c"option 'c0' has no fixed size");
        }
        at = at.saturating_add(field.padding).saturating_add(field.size);
    }
    state.push_number(at as f64);
    1
}

fn fail(state: State, context: &mut Context, text: std::fmt::Arguments<'_>) -> ! {
    context.text.clear();
    let written = context.text.write_fmt(text);
    debug_assert!(written.is_ok(), "a vector takes every byte");
    state.raise_text(&context.text)
}
