//! Errors of `serde_yaml`, taken apart and told in the words of a user.
//!
//! The crate's errors are opaque but for their text and their mark, so the text
//! is what there is to go by. A form that is not recognised is passed on as it
//! is: still true, only less kind.

use crate::base::problems::{Position, Problem, suggest};

/// A path or message longer than this is cut.
const MESSAGE_MAX_CHARS: usize = 300;

/// What an error says: where in the document, and what.
pub(super) struct Told {
    pub(super) path: String,
    pub(super) message: String,
    pub(super) position: Option<Position>,
}

impl Told {
    pub(super) fn of(error: &serde_yaml::Error) -> Told {
        let text = error.to_string();
        let position = error.location().map(|it| Position {
            line: u32::try_from(it.line()).unwrap_or(u32::MAX),
            column: u32::try_from(it.column()).unwrap_or(u32::MAX),
        });
        // Text and mark come as `path: message at line 3 column 5`; a syntax
        // error goes on after the mark (`…, while parsing a block mapping at …`).
        let text = match position {
            Some(Position { line, column }) => {
                text.replacen(&format!(" at line {line} column {column}"), "", 1)
            }
            None => text,
        };
        match text.split_once(": ") {
            Some((path, message)) if is_path(path) => {
                // The root is a dot, which only shows before a list's index.
                let path = path.strip_prefix('.').unwrap_or(path).to_owned();
                Told { path, message: message.to_owned(), position }
            }
            _ => Told { path: String::new(), message: text, position },
        }
    }

    /// The name in "unknown field `…`".
    pub(super) fn unknown_key(&self) -> Option<&str> {
        self.message.strip_prefix("unknown field `")?.split('`').next()
    }

    /// The names in "expected one of `…`, `…`".
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        self.message.split('`').skip(1).step_by(2).skip(1)
    }

    /// The same in the words of a user: keys and words, not fields and variants.
    pub(super) fn problem(&self) -> Problem {
        let word = self.message.split('`').nth(1).unwrap_or_default();
        let message = if self.message.starts_with("unknown field") {
            format!("unknown key `{word}`{}", suggest(word, self.known()))
        } else if self.message.starts_with("unknown variant") {
            format!("unknown word `{word}`{}", suggest(word, self.known()))
        } else if self.message.starts_with("missing field") {
            format!("the key `{word}` is missing")
        } else if let Some(rest) = self.message.strip_prefix("invalid type: ") {
            match rest.split_once(", expected ") {
                Some((found, expected)) => {
                    format!("expected {}, found {}", plain(expected), plain(found))
                }
                None => self.message.clone(),
            }
        } else {
            self.message.clone()
        };
        Problem::new(clipped(self.path.clone()), clipped(message))
    }
}

/// A path or message that quotes a stranger's megabyte is cut short.
fn clipped(text: String) -> String {
    match text.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Rust's names of kinds, in plain words.
fn plain(kind: &str) -> &str {
    match kind {
        "unit value" => "nothing",
        "map" | "a map" => "a mapping",
        "sequence" | "a sequence" => "a list",
        "string" | "a string" => "a text",
        // Enums of words; YAML's own way to write richer ones is not used here.
        "a YAML tag starting with '!'" => "a word",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a boolean" => "`true` or `false`",
        _ if kind.starts_with("struct ") => "a mapping",
        _ => kind,
    }
}

/// Whether an error's first part is a path and not the start of a sentence.
fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(' ') && !text.contains('`')
}
