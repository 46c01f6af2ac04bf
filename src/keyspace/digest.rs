//! The digest of a keyspace, byte for byte as Redis 7.0 computes it: two servers
//! that hold the same data answer the same forty digits.
//!
//! Where order counts, texts are *mixed* in; where it does not, they are *added*.
//!
//! ```text
//! add(text)   digest = digest xor SHA1(text)
//! mix(text)   add(text), then digest = SHA1(digest)
//!
//! of a value  mix(type), then its texts, and add("!!expire!!") if it has a deadline
//! of all      mix(number of the database), then add(mix(key), of its value) each
//! ```

use sha1::{Digest as _, Sha1};

use super::value::Value;
use crate::resp::number::NumberText;

/// A digest under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest([u8; 20]);

impl Digest {
    /// The digest of all keys.
    pub(super) fn of_keys<'a>(
        entries: impl Iterator<Item = (&'a [u8], &'a Value, Option<u64>)>,
    ) -> Digest {
        let mut all = Digest::default();
        for (index, (key, value, deadline)) in entries.enumerate() {
            if index == 0 {
                all.mix(&0u32.to_be_bytes());
            }
            let mut digest = Digest::default();
            digest.mix(key);
            digest.mix_value(value, deadline);
            all.add(&digest.0);
        }
        all
    }

    /// The digest of one value.
    pub(super) fn of_value(value: &Value, deadline: Option<u64>) -> Digest {
        let mut digest = Digest::default();
        digest.mix_value(value, deadline);
        digest
    }

    /// Forty hexadecimal digits.
    pub(super) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn add(&mut self, text: &[u8]) {
        self.add_sum(Sha1::new_with_prefix(text));
    }

    fn mix(&mut self, text: &[u8]) {
        self.mix_sum(Sha1::new_with_prefix(text));
    }

    /// Adds a text of which there is the sum.
    fn add_sum(&mut self, sum: Sha1) {
        self.0.iter_mut().zip(sum.finalize()).for_each(|(byte, other)| *byte ^= other);
    }

    fn mix_sum(&mut self, sum: Sha1) {
        self.add_sum(sum);
        self.0 = Sha1::digest(self.0).into();
    }

    fn mix_value(&mut self, value: &Value, deadline: Option<u64>) {
        match value {
            Value::String(string) => {
                self.mix(&0u32.to_be_bytes());
                let mut sum = Sha1::new();
                string.pieces(0..string.len()).for_each(|piece| sum.update(&*piece));
                self.mix_sum(sum);
            }
            Value::SortedSet(set) => {
                self.mix(&3u32.to_be_bytes());
                for (member, score) in set.iter() {
                    self.add_pair(&member, &NumberText::double(score));
                }
            }
            Value::List(list) => {
                self.mix(&1u32.to_be_bytes());
                list.iter().for_each(|text| self.mix(text));
            }
            Value::Set(set) => {
                self.mix(&2u32.to_be_bytes());
                set.iter().for_each(|member| self.add(&member));
            }
            Value::Hash(hash) => {
                self.mix(&4u32.to_be_bytes());
                hash.iter().for_each(|(field, value)| self.add_pair(field, value));
            }
        }
        if deadline.is_some() {
            self.add(b"!!expire!!");
        }
    }

    /// Adds two texts that belong together.
    fn add_pair(&mut self, first: &[u8], second: &[u8]) {
        let mut pair = Digest::default();
        pair.mix(first);
        pair.mix(second);
        self.add(&pair.0);
    }
}
