//! The policy file as written.
//!
//! Only shape is decided here: which keys there are, and where a list stands.
//! Words and numbers stay text until [`super::check`] looks at them, so that it
//! can tell everything that is wrong in one go.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::example::Example;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) policies: Option<Vec<Policy>>,
    pub(super) jwt: Option<Jwt>,
    pub(super) headers: Option<Headers>,
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
    pub(super) tiers: Option<Tiers>,
    pub(super) overrides: Option<Vec<Override>>,
    pub(super) allow: Option<List>,
    pub(super) deny: Option<List>,
    pub(super) cost: Option<Cost>,
    pub(super) settle: Option<Settle>,
    pub(super) on_deny: Option<OnDeny>,
    pub(super) penalty: Option<Penalty>,
    pub(super) key_budget: Option<KeyBudget>,
    pub(super) examples: Option<Vec<Example>>,
}

/// The `jwt` of a file: where tokens are, and which are believed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwt {
    pub(super) header: Option<String>,
    pub(super) keys: Option<String>,
    pub(super) issuer: Option<Words>,
    pub(super) audience: Option<Words>,
    pub(super) unverified: Option<bool>,
}

/// The `headers` of a file: which fields tell quotas.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) dialect: Option<String>,
    pub(super) partition_key: Option<bool>,
}

/// The `settle` of a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settle {
    pub(super) from: Option<String>,
    pub(super) per: Option<String>,
    pub(super) max: Option<String>,
    pub(super) when_status: Option<Words>,
    pub(super) reserve: Option<String>,
}

/// The `on_deny` of a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnDeny {
    pub(super) status: Option<String>,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) body: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) jitter: Option<String>,
    pub(super) delay: Option<Delay>,
}

/// The `delay` of an `on_deny`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delay {
    pub(super) wait_max: Option<String>,
    pub(super) waiting_max: Option<String>,
    pub(super) memory_max: Option<String>,
}

/// The `key_budget` of a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBudget {
    pub(super) keys: Option<String>,
    pub(super) limits: Option<Vec<Limit>>,
}

/// The `penalty` of a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Penalty {
    pub(super) refusals: Option<String>,
    pub(super) window: Option<String>,
    pub(super) ban: Option<String>,
    pub(super) ban_max: Option<String>,
}

/// The `tiers` of a policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tiers {
    pub(super) by: Option<String>,
    pub(super) limits: Option<BTreeMap<String, Vec<Limit>>>,
}

/// An entry of `overrides`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    pub(super) key: Option<Words>,
    pub(super) when: Option<BTreeMap<String, String>>,
    pub(super) limits: Option<Vec<Limit>>,
    pub(super) unlimited: Option<bool>,
    pub(super) deny: Option<bool>,
}

/// An override that is set at run time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    pub(super) key: Option<Words>,
    pub(super) when: Option<BTreeMap<String, String>>,
    pub(super) limits: Option<Vec<Limit>>,
    pub(super) unlimited: Option<bool>,
    pub(super) deny: Option<bool>,
    pub(super) ends_after: Option<String>,
    pub(super) reason: Option<String>,
}

/// A list from a file of its own: `allow`, `deny`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    pub(super) file: Option<String>,
    pub(super) of: Option<String>,
}

/// The `cost` of a policy: a word, or more.
#[derive(Debug, Default)]
pub(super) struct Cost {
    pub(super) from: Option<String>,
    pub(super) per: Option<String>,
    pub(super) default: Option<String>,
    pub(super) max: Option<String>,
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(cost: D) -> Result<Cost, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            from: Option<String>,
            per: Option<String>,
            default: Option<String>,
            max: Option<String>,
        }

        Ok(match word_or(cost)? {
            WordOr::Word(word) => Cost { from: Some(word), ..Cost::default() },
            WordOr::Whole(Whole { from, per, default, max }) => Cost { from, per, default, max },
        })
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(headers: D) -> Result<Headers, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            dialect: Option<String>,
            partition_key: Option<bool>,
        }

        Ok(match word_or(headers)? {
            WordOr::Word(word) => Headers { dialect: Some(word), partition_key: None },
            WordOr::Whole(Whole { dialect, partition_key }) => Headers { dialect, partition_key },
        })
    }
}

/// A word, or the mapping that it is short for.
enum WordOr<T> {
    Word(String),
    Whole(T),
}

fn word_or<'de, T: Deserialize<'de>, D: Deserializer<'de>>(node: D) -> Result<WordOr<T>, D::Error> {
    struct WordOrVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for WordOrVisitor<T> {
        type Value = WordOr<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a word or a mapping")
        }

        fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<WordOr<T>, E> {
            Ok(WordOr::Word(word.to_owned()))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WordOr<T>, E> {
            Ok(WordOr::Word(number.to_string()))
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WordOr<T>, E> {
            Ok(WordOr::Word(number.to_string()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WordOr<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(WordOr::Whole)
        }
    }

    node.deserialize_any(WordOrVisitor(PhantomData))
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
