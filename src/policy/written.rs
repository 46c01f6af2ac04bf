//! The policy file as written.
//!
//! Only shape is decided here: which keys there are, and where a list stands.
//! Words and numbers stay text until [`super::check`] looks at them, so that it
//! can tell everything that is wrong in one go.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) policies: Option<Vec<Policy>>,
}

/// An entry of `policies`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) name: Option<String>,
    #[serde(rename = "match")]
    pub(super) matched: Option<Match>,
    pub(super) key: Option<Words>,
    pub(super) on_missing_key: Option<String>,
    pub(super) limits: Option<Vec<Limit>>,
    pub(super) mode: Option<String>,
}

/// The `match` of a policy.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    pub(super) path: Option<String>,
    pub(super) method: Option<Words>,
    pub(super) host: Option<String>,
    pub(super) header: Option<BTreeMap<String, String>>,
}

/// An entry of `limits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub(super) quota: Option<String>,
    pub(super) window: Option<String>,
    pub(super) algorithm: Option<String>,
    pub(super) name: Option<String>,
    pub(super) burst: Option<String>,
    pub(super) begins: Option<String>,
    pub(super) candidate: Option<Box<Limit>>,
}

/// A word or a list of words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    /// Each word, with the path of `parent` completed to where it stands.
    pub(super) fn located<'w>(&'w self, parent: &str) -> Vec<(String, &'w str)> {
        match self {
            Words::One(word) => vec![(parent.to_owned(), word)],
            Words::Many(words) => words
                .iter()
                .enumerate()
                .map(|(index, word)| (format!("{parent}[{index}]"), word.as_str()))
                .collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(words: D) -> Result<Words, D::Error> {
        struct WordsVisitor;

        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Words, E> {
                Ok(Words::One(word.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(Words::Many(words))
            }
        }

        words.deserialize_any(WordsVisitor)
    }
}
