//! One spelling for every path, so that a limit cannot be dodged by another.
//!
//! Doors normalise the path of a request once; conditions, keys and the
//! forwarded request all see the result. What could mean two things to two
//! servers is not guessed at but refused, and the door answers 400.
//!
//! | written | becomes |
//! |---|---|
//! | `%7Euser`, `%61` (letters, digits, `-` `.` `_` `~`) | `~user`, `a` |
//! | `%c3%a9`, `%3b` (anything else encoded) | `%C3%A9`, `%3B` |
//! | raw printable characters outside RFC 3986's paths (`"`, `<`, `[`, `^`, `{`, and the like) | encoded |
//! | `//`, `/./`, `/a/../` | `/`, `/`, `/`, in that order |
//! | a slash at the end | stays |
//!
//! # Invariants
//!
//! 1. A result begins with `/`, holds no `//` and no segment `.` or `..`.
//! 2. Normalising a result changes nothing.
//!
//! # Not here
//!
//! The query, which the door cuts off first, and hosts ([`super::host`]).

use std::borrow::Cow;

/// Why a path cannot be normalised. The text is fit for the body of a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, `*`, or an absolute URI.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A space, a control character, or a byte beyond ASCII, not encoded.
    #[error("the path holds the byte 0x{0:02X}, which must be percent-encoded")]
    RawByte(u8),
    /// `\`: a slash to some servers and a letter to others.
    #[error("the path holds a backslash")]
    Backslash,
    /// `?` or `#`: the path should have ended before it.
    #[error("the path holds `{0}`")]
    Delimiter(char),
    /// `%` without two hexadecimal digits.
    #[error("the path holds a percent sign that is not followed by two hexadecimal digits")]
    BadEscape,
    /// `%2F`, `%5C`, `%00`, other encoded control characters.
    #[error("the path holds an encoded slash, backslash or control character (%{0:02X})")]
    EncodedSeparator(u8),
    /// An encoding of a character that is longer than UTF-8 allows, such as
    /// `%C0%AF`: a slash to careless decoders.
    #[error("the path holds an overlong encoding (%{0:02X})")]
    Overlong(u8),
    /// `..;x`: up to servers that cut parameters off, down to others.
    #[error("the path holds a dot segment with parameters")]
    DotSegmentParameters,
    /// More `..` than segments before it.
    #[error("the path leads above the root")]
    AboveRoot,
}

/// The normal form of a path without its query. Borrows when the path is in
/// normal form already, which nearly all are.
///
/// # Errors
/// The path could mean different things to different servers; see [`PathError`].
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if is_plain(raw) {
        return Ok(Cow::Borrowed(raw));
    }
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let decoded = unify_escapes(raw)?;
    let resolved = resolve_segments(&decoded)?;
    Ok(if resolved == raw { Cow::Borrowed(raw) } else { Cow::Owned(resolved) })
}

/// What a byte of a path needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Nothing: RFC 3986's `pchar`, and the slash.
    Plain,
    /// To be percent-encoded.
    Encode,
    /// To be looked at: `%`.
    Percent,
    /// To be refused.
    Refuse,
}

/// The class of each byte.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refuse; 256];
    let mut byte = 0x21;
    while byte < 0x7F {
        classes[byte as usize] = match byte {
            b'%' => Class::Percent,
            b'?' | b'#' | b'\\' => Class::Refuse,
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Encode,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

/// Whether a path is in normal form, by one look at each byte. May say no to
/// one that is.
fn is_plain(raw: &str) -> bool {
    let mut previous = 0;
    for &byte in raw.as_bytes() {
        let after_slash = previous == b'/' && matches!(byte, b'/' | b'.');
        if CLASSES[usize::from(byte)] != Class::Plain || after_slash {
            return false;
        }
        previous = byte;
    }
    raw.starts_with('/')
}

/// Decodes what needs no encoding, encodes what does, and writes every other
/// escape in upper case.
fn unify_escapes(raw: &str) -> Result<String, PathError> {
    let mut unified = String::with_capacity(raw.len() + 16);
    let mut bytes = raw.bytes();
    let mut previous_escape = 0;
    while let Some(byte) = bytes.next() {
        let escape = std::mem::take(&mut previous_escape);
        match CLASSES[usize::from(byte)] {
            Class::Plain => unified.push(char::from(byte)),
            Class::Encode => push_escape(&mut unified, byte),
            Class::Percent => {
                let decoded = escaped_byte(&mut bytes)?;
                refuse_ambiguous(decoded, escape)?;
                if decoded.is_ascii_alphanumeric() || matches!(decoded, b'-' | b'.' | b'_' | b'~') {
                    unified.push(char::from(decoded));
                } else {
                    push_escape(&mut unified, decoded);
                    previous_escape = decoded;
                }
            }
            Class::Refuse => {
                return Err(match byte {
                    b'\\' => PathError::Backslash,
                    b'?' | b'#' => PathError::Delimiter(char::from(byte)),
                    _ => PathError::RawByte(byte),
                });
            }
        }
    }
    Ok(unified)
}

/// The byte of an escape whose `%` has been taken.
fn escaped_byte(bytes: &mut std::str::Bytes<'_>) -> Result<u8, PathError> {
    let mut digit = || {
        let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(PathError::BadEscape)
    };
    Ok(digit()? << 4 | digit()?)
}

/// Refuses an encoded byte that servers are known to disagree about. `previous`
/// is the byte encoded just before it, or 0.
fn refuse_ambiguous(decoded: u8, previous: u8) -> Result<(), PathError> {
    let overlong =
        matches!((previous, decoded), (_, 0xC0 | 0xC1) | (0xE0, 0x80..=0x9F) | (0xF0, 0x80..=0x8F));
    if overlong {
        return Err(PathError::Overlong(decoded));
    }
    if decoded < 0x20 || matches!(decoded, b'/' | b'\\' | 0x7F) {
        return Err(PathError::EncodedSeparator(decoded));
    }
    Ok(())
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 0xF)]);
}

/// Merges slashes, then resolves dot segments (RFC 3986, 5.2.4, but an excess
/// `..` is an error). `path` begins with a slash.
fn resolve_segments(path: &str) -> Result<String, PathError> {
    let mut resolved = String::with_capacity(path.len());
    let mut ends_with_slash = true;
    for segment in path.split('/').skip(1) {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                let parent = resolved.rfind('/').ok_or(PathError::AboveRoot)?;
                resolved.truncate(parent);
            }
            _ => {
                let name = segment.find([';', '%']).map_or(segment, |end| &segment[..end]);
                let rest = &segment[name.len()..];
                let has_parameters = rest.starts_with(';') || rest.starts_with("%3B");
                if matches!(name, "." | "..") && has_parameters {
                    return Err(PathError::DotSegmentParameters);
                }
                resolved.push('/');
                resolved.push_str(segment);
            }
        }
    }
    if ends_with_slash {
        resolved.push('/');
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<&str, PathError>) {
        let found = normalise(raw);
        assert_eq!(found.as_deref(), expected.as_ref().map(|it| &**it), "{raw:?}");
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        let spellings = [
            "/limited/x",
            "//limited/x",
            "///limited///x",
            "/limited//x",
            "/./limited/x",
            "/limited/./x",
            "/limited/././x",
            "/.//limited/x",
            "/a/../limited/x",
            "/limited/y/../x",
            "/limited/a/b/../../x",
            "/limited/a//../x",
            "/a/./../limited/x",
            "/%6Cimited/x",
            "/%6cimited/x",
            "/l%69mited/x",
            "/%6c%69%6d%69%74%65%64/%78",
            "/limited/%78",
            "/limited%2e%2e/../limited/x",
            "/a/%2e%2e/limited/x",
            "/a/%2E%2E/limited/x",
            "/a/.%2e/limited/x",
            "/a/%2E./limited/x",
            "/%2e/limited/x",
            "/limited/%2e/x",
            "/a/b/%2e%2e/%2e%2e/limited//x",
        ];
        for raw in spellings {
            check(raw, Ok("/limited/x"));
        }
    }

    #[test]
    fn what_is_different_stays_different() {
        for raw in [
            "/",
            "/x",
            "/x/",
            "/limited/x/",
            "/Limited/x",
            "/limited/x;v=1",
            "/limited;v=1/x",
            "/...",
            "/..x",
            "/.x",
            "/x.",
            "/x..",
            "/.well-known/acme",
            "/a.b/c..d",
            "/a:b@c",
            "/!$&'()*+,;=",
            "/-._~",
            "/%C3%A9",
            "/%E9",
            "/%E2%82%AC",
            "/%F0%9F%98%80",
            "/%20",
            "/%252F",
            "/%252e%252e/x",
            "/%3B",
            "/%2A",
            "/%7C",
            "/%25",
            "/..%20",
            "/..%C3%A9;",
        ] {
            check(raw, Ok(raw));
        }
    }

    #[test]
    fn escapes_and_ends_take_one_form() {
        for (raw, expected) in [
            ("/%c3%a9", "/%C3%A9"),
            ("/%3b", "/%3B"),
            ("/%7e%7E", "/~~"),
            ("/%41%5A%61%7A%30%39%2D%2E%5F", "/AZaz09-._"),
            ("/a|b", "/a%7Cb"),
            ("/a%7cb", "/a%7Cb"),
            ("/{id}", "/%7Bid%7D"),
            ("/[1]", "/%5B1%5D"),
            ("/\"<>^`", "/%22%3C%3E%5E%60"),
            ("//", "/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a//", "/a/"),
            ("/a/%2e", "/a/"),
            ("/a/b/%2e%2e", "/a/"),
        ] {
            check(raw, Ok(expected));
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        use PathError::*;
        for (raw, error) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("x", NotAbsolute),
            ("./x", NotAbsolute),
            ("%2Fx", NotAbsolute),
            ("http://host/x", NotAbsolute),
            ("/limited%2fx", EncodedSeparator(b'/')),
            ("/limited%2Fx", EncodedSeparator(b'/')),
            ("/%2f", EncodedSeparator(b'/')),
            ("/..%2fx", EncodedSeparator(b'/')),
            ("/limited%5cx", EncodedSeparator(b'\\')),
            ("/limited%5Cx", EncodedSeparator(b'\\')),
            ("/x%00", EncodedSeparator(0)),
            ("/x%00.html", EncodedSeparator(0)),
            ("/x%0d%0a", EncodedSeparator(b'\r')),
            ("/x%0A", EncodedSeparator(b'\n')),
            ("/x%09", EncodedSeparator(b'\t')),
            ("/x%7f", EncodedSeparator(0x7F)),
            ("/limited\\x", Backslash),
            ("/\\..\\x", Backslash),
            ("/x\0", RawByte(0)),
            ("/x\n", RawByte(b'\n')),
            ("/x y", RawByte(b' ')),
            ("/x\t", RawByte(b'\t')),
            ("/x\u{7f}", RawByte(0x7F)),
            ("/é", RawByte(0xC3)),
            ("/\u{ff0f}x", RawByte(0xEF)),
            ("/x?y", Delimiter('?')),
            ("/x#y", Delimiter('#')),
            ("/%", BadEscape),
            ("/%4", BadEscape),
            ("/%zz", BadEscape),
            ("/%+1", BadEscape),
            ("/%u0041", BadEscape),
            ("/%é9", BadEscape),
            ("/%c0%af", Overlong(0xC0)),
            ("/%C0%AE%C0%AE/x", Overlong(0xC0)),
            ("/%c1%9c", Overlong(0xC1)),
            ("/%e0%80%af", Overlong(0x80)),
            ("/%f0%80%80%af", Overlong(0x80)),
            ("/a/..;/x", DotSegmentParameters),
            ("/a/..;v=1/x", DotSegmentParameters),
            ("/a/.;/x", DotSegmentParameters),
            ("/a/%2e%2e;/x", DotSegmentParameters),
            ("/a/..%3b/x", DotSegmentParameters),
            ("/..", AboveRoot),
            ("/../x", AboveRoot),
            ("/a/../../x", AboveRoot),
            ("/%2e%2e/x", AboveRoot),
            ("//../x", AboveRoot),
            ("/./../x", AboveRoot),
        ] {
            check(raw, Err(error));
        }
    }

    #[test]
    fn a_path_in_normal_form_is_borrowed() {
        for raw in ["/", "/limited/x", "/.well-known/acme", "/%C3%A9", "/%20"] {
            assert!(matches!(normalise(raw), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(raw in "/([a-c./%;|]|%2[eE]|%6[1-3]|//|\\.\\.){0,16}") {
            if let Ok(once) = normalise(&raw) {
                prop_assert_eq!(normalise(&once), Ok(Cow::Borrowed(&*once)));
                let segments_are_clean =
                    once.split('/').skip(1).all(|segment| !matches!(segment, "." | ".."));
                prop_assert!(segments_are_clean && once.starts_with('/') && !once.contains("//"));
            }
        }

        #[test]
        fn no_text_is_too_odd_to_be_looked_at(raw in "\\PC*") {
            let _ = normalise(&raw);
            let _ = normalise(&format!("/{raw}"));
        }
    }
}
