//! How wide the cells of a run are, and what they count from.
//!
//! ```text
//! score     whole: an offset from a base, in as few bytes as reach    | else its 64 bits
//! member    a number: its distance from the score, counted likewise   | else a text
//! ```
//!
//! What a limiter remembers is a time, named by that time or nearly so. Such a
//! member is its score, at a distance that takes no byte at all, and a window of a
//! quarter of an hour fits four bytes.
//!
//! # Invariants
//!
//! 1. A number stands for exactly one text, its canonical decimal: `007` and `+5`
//!    are texts.
//! 2. What a layout admits is read back to the last bit. So minus zero, fractions
//!    and what is beyond 2^53 are not whole.

use crate::keyspace::arg::{Text, parse_integer};
use crate::resp::number::NumberText;

/// Up to here every whole number is a double of its own.
const WHOLE_MAX: u64 = 1 << 53;

/// Members beyond this are texts, so that a distance from a score fits 64 bits.
const NUMBER_MAX: i64 = 1 << 62;

/// The digits of [`NUMBER_MAX`], and a sign.
const NUMBER_TEXT_LEN_MAX: usize = 20;

/// A member, as a run holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name<'a> {
    /// The canonical decimal of this number, which [`Name::number`] admits.
    Number(i64),
    /// Any other.
    Text(&'a [u8]),
}

impl<'a> Name<'a> {
    /// A member as a number, where it is one.
    pub fn of(member: &'a [u8]) -> Name<'a> {
        let is_short = member.len() <= NUMBER_TEXT_LEN_MAX;
        let number = is_short.then(|| parse_integer(member)).flatten();
        number.and_then(Name::number).unwrap_or(Name::Text(member))
    }

    /// The member that is the canonical decimal of this; `None` if that is a text here.
    #[inline]
    pub fn number(number: i64) -> Option<Name<'static>> {
        (-NUMBER_MAX..=NUMBER_MAX).contains(&number).then_some(Name::Number(number))
    }

    /// The bytes of the member.
    pub fn text(self) -> Text<'a> {
        match self {
            Name::Number(number) => Text::Number(NumberText::integer(number)),
            Name::Text(text) => Text::Borrowed(text),
        }
    }
}

/// A score as a whole number, where it is one.
#[inline]
pub(super) fn whole(score: f64) -> Option<i64> {
    let whole = score as i64;
    // Minus zero, fractions and what saturates do not come back.
    let comes_back = (whole as f64).to_bits() == score.to_bits();
    (comes_back && whole.unsigned_abs() <= WHOLE_MAX).then_some(whole)
}

/// Cells that hold offsets from a base.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Offsets {
    pub(super) base: i64,
    pub(super) width: Width,
}

impl Offsets {
    /// Cells for the values between these two, with some room on both sides: most
    /// values that come are new extremes.
    pub(super) fn spanning(least: i64, most: i64) -> Offsets {
        let span = most.wrapping_sub(least) as u64;
        let wanted = span.saturating_add(span / 8);
        let width = Width::of(wanted);
        // Time goes upward, so most of the room is left above.
        let below = (width.mask() - span) / 8;
        Offsets { base: least.saturating_sub_unsigned(below), width }
    }

    /// The cell of a value, if there is one.
    #[inline]
    pub(super) fn cell(self, value: i64) -> Option<u64> {
        let offset = value.wrapping_sub(self.base) as u64;
        (value >= self.base && offset <= self.width.mask()).then_some(offset)
    }

    /// The value of a cell.
    #[inline]
    pub(super) fn value(self, cell: u64) -> i64 {
        self.base.wrapping_add(cell as i64)
    }
}

/// Bytes of a cell: none when all values are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
#[repr(u8)]
pub(super) enum Width {
    #[default]
    W0,
    W1,
    W2,
    W3,
    W4,
    W5,
    W6,
    W7,
    W8,
}

impl Width {
    const ALL: [Width; 9] = [
        Width::W0,
        Width::W1,
        Width::W2,
        Width::W3,
        Width::W4,
        Width::W5,
        Width::W6,
        Width::W7,
        Width::W8,
    ];

    /// The least that holds this.
    fn of(most: u64) -> Width {
        Width::ALL[(u64::BITS - most.leading_zeros()).div_ceil(8) as usize]
    }

    /// Bytes of a cell.
    pub(super) fn bytes(self) -> usize {
        self as usize
    }

    /// The largest value of a cell.
    #[inline]
    pub(super) fn mask(self) -> u64 {
        u64::MAX.checked_shr(64 - 8 * self as u32).unwrap_or(0)
    }
}

/// What the cells of a run hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    /// `None`: the bits of the scores.
    pub(super) scores: Option<Offsets>,
    /// `None`: texts.
    pub(super) names: Option<Offsets>,
}

impl Layout {
    /// The tightest for these entries.
    pub(super) fn of<'a>(entries: impl Iterator<Item = (f64, Name<'a>)> + Clone) -> Layout {
        let scores = span(entries.clone().map(|(score, _)| whole(score)));
        let counted = Layout { scores, names: None };
        Layout { scores, names: span(entries.map(|(score, name)| counted.distance(score, name))) }
    }

    /// What the cell of a score is to hold.
    #[inline]
    pub(super) fn score_cell(self, score: f64) -> u64 {
        match self.scores {
            Some(offsets) => whole(score).and_then(|it| offsets.cell(it)).unwrap_or_default(),
            None => score.to_bits(),
        }
    }

    /// How far a member is from what it is counted from; nothing for a text.
    #[inline]
    pub(super) fn distance(self, score: f64, name: Name<'_>) -> Option<i64> {
        match name {
            Name::Number(number) if self.scores.is_some() => Some(number - whole(score)?),
            Name::Number(number) => Some(number),
            Name::Text(_) => None,
        }
    }
}

/// Cells for all of these values; `None` if one of them has none.
fn span(mut values: impl Iterator<Item = Option<i64>>) -> Option<Offsets> {
    let first = values.next().flatten()?;
    let (least, most) = values.try_fold((first, first), |(least, most), value| {
        value.map(|value| (least.min(value), most.max(value)))
    })?;
    Some(Offsets::spanning(least, most))
}

/// Cells of one width, one behind the other in a block.
///
/// A cell is read and written as eight bytes, of which it keeps its own; whoever
/// has the block sees to it that there are eight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) start: usize,
    pub(super) width: Width,
}

impl Column {
    #[inline]
    pub(super) fn load(self, block: &[u8], place: usize) -> u64 {
        let at = self.place(place);
        let mut word = [0; 8];
        word.copy_from_slice(&block[at..at + 8]);
        u64::from_le_bytes(word) & self.width.mask()
    }

    #[inline]
    pub(super) fn store(self, block: &mut [u8], place: usize, cell: u64) {
        let (at, mask) = (self.place(place), self.width.mask());
        debug_assert!(cell <= mask);
        let word = &mut block[at..at + 8];
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        let kept = u64::from_le_bytes(bytes) & !mask;
        word.copy_from_slice(&(kept | cell).to_le_bytes());
    }

    /// Writes the first cells of a column, and with them what is behind the last.
    pub(super) fn fill(self, block: &mut [u8], cells: impl Iterator<Item = u64>) {
        if self.width == Width::W0 {
            return;
        }
        // Each covers what the one before it has spilt.
        for (place, cell) in cells.enumerate() {
            let at = self.place(place);
            block[at..at + 8].copy_from_slice(&cell.to_le_bytes());
        }
    }

    /// Moves cells to another place.
    pub(super) fn shift(self, block: &mut [u8], from: usize, end: usize, to: usize) {
        block.copy_within(self.place(from)..self.place(end), self.place(to));
    }

    /// Where in the block a place is.
    #[inline]
    pub(super) fn place(self, place: usize) -> usize {
        self.start + place * self.width.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_a_number_prints_as_is_a_number() {
        for text in ["0", "7", "-7", "1764000000000000", "4611686018427387904"] {
            assert!(matches!(Name::of(text.as_bytes()), Name::Number(_)), "{text}");
        }
        for text in ["", "-", "007", "+5", "-0", "1.0", "1e3", " 1", "4611686018427387905", "x"] {
            assert_eq!(Name::of(text.as_bytes()), Name::Text(text.as_bytes()));
        }
    }

    #[test]
    fn only_what_comes_back_to_the_last_bit_is_whole() {
        let most = WHOLE_MAX as f64;
        for score in [0.0, 1.0, -1.0, 1_764_000_000_000_000.0, most, -most] {
            assert_eq!(whole(score).map(|it| (it as f64).to_bits()), Some(score.to_bits()));
        }
        let beyond = [1e300, f64::INFINITY, f64::NEG_INFINITY, most + 2.0, -1e19];
        for score in [-0.0, 0.5].into_iter().chain(beyond) {
            assert_eq!(whole(score), None, "{score}");
        }
    }

    proptest! {
        #[test]
        fn a_value_comes_back_from_its_cell(
            values in vec(prop_oneof![-1_000i64..1_000, any::<i64>()], 1..20),
        ) {
            let offsets = span(values.iter().copied().map(Some)).unwrap();
            for value in &values {
                let cell = offsets.cell(*value).unwrap();
                prop_assert_eq!(offsets.value(cell), *value);
                let column = Column { start: 3, width: offsets.width };
                let mut block = [0xAA; 40];
                column.store(&mut block, 2, cell);
                prop_assert_eq!(column.load(&block, 2), cell);
                let others = block.iter().filter(|byte| **byte == 0xAA).count();
                prop_assert!(others >= block.len() - offsets.width.bytes());
            }
        }
    }
}
