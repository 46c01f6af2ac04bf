//! Strings beside a `Vec<u8>` that is written into in the same way.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::blocks::SEGMENT_LEN;
use super::*;

/// Bytes of a full segment: tests have small ones.
const SEGMENT_BYTES: usize = SEGMENT_LEN * BLOCK_LEN;

#[test]
fn forms_have_the_words_that_redis_has_for_them() {
    let encoding = |text: &[u8]| StringValue::from(text).encoding();
    assert_eq!(encoding(b"0"), "int");
    assert_eq!(encoding(b"-9223372036854775808"), "int");
    assert_eq!(encoding(b"9223372036854775808"), "embstr");
    assert_eq!(encoding(b"01"), "embstr");
    assert_eq!(encoding(b""), "embstr");
    assert_eq!(encoding(&[b'x'; 44]), "embstr");
    assert_eq!(encoding(&[b'x'; 45]), "raw");
    assert_eq!(encoding(&[b'x'; BLOCK_LEN + 1]), "raw");
    assert_eq!(StringValue::from(vec![b'x'; 44]).encoding(), "embstr");
    assert_eq!(StringValue::from_text(b"10").encoding(), "embstr");
    let mut appended = StringValue::from(7);
    appended.overwrite(1, b"0");
    assert_eq!((appended.encoding(), appended.to_vec()), ("raw", b"70".to_vec()));
}

#[test]
fn a_string_takes_no_more_room_than_a_sorted_set() {
    assert_eq!(size_of::<StringValue>(), 32);
}

/// Where the pieces of a string lie, and how long they are.
fn places(string: &StringValue) -> BTreeSet<(usize, usize)> {
    let pieces = string.pieces(0..string.len());
    pieces.map(|piece| (piece.as_ptr().addr(), piece.len())).collect()
}

/// Bytes of a string that lie elsewhere than those of another.
fn moved(string: &StringValue, other: &StringValue) -> usize {
    places(string).difference(&places(other)).map(|(_, len)| len).sum()
}

#[test]
fn a_write_into_a_large_string_copies_the_blocks_it_touches_and_only_if_they_are_shared() {
    let whole = vec![b'x'; 9 * SEGMENT_BYTES];
    let mut string = StringValue::from(whole.clone());
    let kept = string.clone();
    assert_eq!(moved(&kept, &string), 0);
    string.overwrite(3 * BLOCK_LEN - 1, b"yy");
    assert_eq!(moved(&string, &kept), 2 * BLOCK_LEN);
    let unshared = places(&string);
    string.overwrite(3 * BLOCK_LEN - 2, b"yyyy");
    assert_eq!(places(&string), unshared, "nobody else has the two");
    assert_eq!(kept.to_vec(), whole);
}

#[test]
fn a_string_that_grows_is_not_moved() {
    let mut string = StringValue::from(vec![b'x'; SEGMENT_BYTES]);
    let before = places(&string);
    for _ in 0..SEGMENT_BYTES {
        string.overwrite(string.len(), b"y");
    }
    assert!(before.is_subset(&places(&string)));
    assert!(string.heap_bytes() < 4 * 2 * SEGMENT_BYTES, "{} bytes", string.heap_bytes());
}

#[test]
fn a_string_that_comes_in_pieces_takes_the_room_of_one_that_comes_whole() {
    let text = vec![b'x'; 2 * SEGMENT_BYTES + 1];
    let mut string = StringValue::from_text(b"");
    text.chunks(BLOCK_LEN).for_each(|piece| string.overwrite(string.len(), piece));
    assert_eq!(string.heap_bytes(), StringValue::from(text).heap_bytes());
}

#[test]
fn zeros_that_fill_a_gap_are_one_block_until_they_are_written_into() {
    let mut string = StringValue::from_text(b"x");
    string.overwrite(500_000, b"y");
    let zeros = string.pieces(BLOCK_LEN..string.len()).skip(1);
    let places: BTreeSet<_> = zeros.map(|piece| piece.as_ptr().addr()).collect();
    assert_eq!(places.len(), 2, "one, and the block with the text");
    string.overwrite(3 * BLOCK_LEN, b"z");
    let mut expected = vec![0; 500_001];
    (expected[0], expected[3 * BLOCK_LEN], expected[500_000]) = (b'x', b'z', b'y');
    assert_eq!(string.to_vec(), expected);
}

/// What happens to a string.
#[derive(Clone, Debug)]
enum Step {
    /// Some bytes are written, perhaps behind its end.
    Write { at: usize, text: Vec<u8> },
    /// Some bytes are written, and that is taken back.
    Undo { at: usize, text: Vec<u8> },
    /// A clone is kept, as a snapshot keeps one.
    Keep,
    /// The clone that was kept first is dropped.
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..600)];
    let write = (any::<prop::sample::Index>(), text, -200isize..300);
    let write = write.prop_map(|(index, text, beyond)| {
        // Anywhere in what it may have become, most often near the end of something.
        (index.index(900).saturating_add_signed(beyond), text)
    });
    prop_oneof![
        6 => write.clone().prop_map(|(at, text)| Step::Write { at, text }),
        3 => write.prop_map(|(at, text)| Step::Undo { at, text }),
        1 => Just(Step::Keep),
        1 => Just(Step::Drop),
    ]
}

fn write(model: &mut Vec<u8>, at: usize, text: &[u8]) {
    model.resize(model.len().max(at + text.len()), 0);
    model[at..at + text.len()].copy_from_slice(text);
}

/// Writes into a string and takes it back as the journal does; false if the string was
/// not in the form that is written into.
fn write_and_restore(string: &mut StringValue, at: usize, text: &[u8]) -> bool {
    let len = string.len();
    let Some(range) = string.overwritten(at, text.len()) else { return false };
    let overwritten: Vec<_> = string.pieces(range).flat_map(|piece| piece.to_vec()).collect();
    string.overwrite(at, text);
    string.restore(at, &overwritten, len);
    true
}

proptest! {
    #[test]
    fn writes_do_what_they_do_to_a_vec_and_clones_stay_as_they_were(
        start in prop_oneof![
            Just(b"123".to_vec()),
            vec(any::<u8>(), 0..100),
            vec(any::<u8>(), 0..1_000),
        ],
        steps in vec(step(), 1..30),
        cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (mut string, mut model) = (StringValue::from(&*start), start);
        let mut kept = std::collections::VecDeque::new();
        for step in steps {
            match step {
                Step::Write { at, text } => {
                    string.overwrite(at, &text);
                    write(&mut model, at, &text);
                }
                Step::Undo { at, text } => {
                    let encoding = string.encoding();
                    write_and_restore(&mut string, at, &text);
                    prop_assert_eq!(string.encoding(), encoding);
                }
                Step::Keep => kept.push_back((string.clone(), model.clone())),
                Step::Drop => drop(kept.pop_front()),
            }
            prop_assert_eq!(string.len(), model.len());
            prop_assert_eq!(&string.to_vec(), &model);
            string.check();
        }
        let (one, other) = (cuts.0.index(model.len() + 1), cuts.1.index(model.len() + 1));
        let range = one.min(other)..one.max(other);
        let part: Vec<_> = string.pieces(range.clone()).flat_map(|it| it.to_vec()).collect();
        prop_assert_eq!(&part, &model[range]);
        for (string, model) in kept {
            prop_assert_eq!(string.to_vec(), model);
            string.check();
        }
    }
}

impl StringValue {
    /// Fails where an invariant does not hold.
    fn check(&self) {
        match &self.form {
            Form::Integer { .. } | Form::Inline { .. } => {}
            Form::Heap { bytes, .. } => assert!(bytes.capacity() <= BLOCK_LEN),
            Form::Large(blocks) => {
                assert!(blocks.len() > BLOCK_LEN);
                blocks.check();
            }
        }
    }
}
