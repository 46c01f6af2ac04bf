//! Both forms against a plain model: a sorted `Vec`.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The plainest sorted set there is.
#[derive(Clone, Debug, Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn insert(&mut self, member: &[u8], score: f64) -> Inserted {
        let inserted = match self.0.iter().position(|it| it.1 == member) {
            Some(at) if self.0[at].0 == score => return Inserted::Unchanged,
            Some(at) => Inserted::Rescored(self.0.remove(at).0),
            None => Inserted::Added,
        };
        self.0.push((score, member.to_vec()));
        self.0.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap().then_with(|| a.1.cmp(&b.1)));
        inserted
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let at = self.0.iter().position(|it| it.1 == member)?;
        Some(self.0.remove(at).0)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<u8>, f64),
    Append(Vec<u8>),
    Remove(Vec<u8>),
    RemoveRange(usize, usize),
    TrimFront(usize),
    Freeze,
}

/// Texts that are no numbers, or are at the edge of being some.
const NEAR_NUMBERS: [&str; 12] = [
    "007",
    "+5",
    "-0",
    "0",
    "1.0",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "4611686018427387904",
    "4611686018427387905",
    "-4611686018427387904",
    "-4611686018427387905",
];

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u32..60).prop_map(|number| format!("m{number}").into_bytes()),
        4 => (-30i64..60).prop_map(|number| number.to_string().into_bytes()),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        2 => (0usize..NEAR_NUMBERS.len()).prop_map(|at| NEAR_NUMBERS[at].as_bytes().to_vec()),
        2 => vec(0u8..3, 0..24),
        1 => (60usize..70).prop_map(|len| vec![b'x'; len]),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-4i8..5).prop_map(f64::from),
        1 => Just(-0.0),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        2 => (0u32..54, -1i8..2).prop_map(|(bits, by)| (1u64 << bits) as f64 + f64::from(by)),
        2 => any::<f64>().prop_filter("a score is never nan", |score| !score.is_nan()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (member(), score()).prop_map(|(member, score)| Op::Insert(member, score)),
        8 => member().prop_map(Op::Append),
        3 => member().prop_map(Op::Remove),
        1 => (0usize..80, 0usize..20).prop_map(|(start, len)| Op::RemoveRange(start, len)),
        4 => (0usize..4).prop_map(Op::TrimFront),
        1 => Just(Op::Freeze),
    ]
}

/// Scores by their bits, so that zero and minus zero differ.
type Listing = Vec<(u64, Vec<u8>)>;

fn entries<'a>(it: impl Iterator<Item = (Text<'a>, f64)>) -> Listing {
    it.map(|(member, score)| (score.to_bits(), member.to_vec())).collect()
}

fn same(set: &SortedSet, model: &Model) {
    let expected: Vec<_> = model.0.iter().map(|it| (it.0.to_bits(), it.1.clone())).collect();
    assert_eq!(entries(set.iter()), expected);
    let mut reversed = entries(set.iter().rev());
    reversed.reverse();
    assert_eq!(reversed, expected);
    assert_eq!(set.len(), model.0.len());
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(set.rank(member), Some(rank));
        assert_eq!(set.score(member), Some(*score));
    }
    for probe in [-4.0, -0.5, 0.0, -0.0, 2.0, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(set.rank_of_score(probe, false), model.0.partition_point(|it| it.0 < probe));
        assert_eq!(set.rank_of_score(probe, true), model.0.partition_point(|it| it.0 <= probe));
    }
    let (start, end) = (set.len() / 3, set.len() - set.len() / 4);
    assert_eq!(entries(set.range(start..end)), expected[start..end]);
    let mut backward = entries(set.range(start..end).rev());
    backward.reverse();
    assert_eq!(backward, expected[start..end]);
}

/// Applies the same operations to a set and to the model and compares them after
/// each; a set that was frozen on the way must not have changed.
fn check(mut set: SortedSet, ops: Vec<Op>) {
    let mut model = Model::default();
    let mut frozen: Vec<(FrozenSortedSet, Listing)> = Vec::new();
    for op in ops {
        match op {
            Op::Insert(member, score) => {
                let inserted = set.insert(&member, score);
                let kept = if set.is_big() { score } else { score + 0.0 };
                assert_eq!(inserted, model.insert(&member, kept));
            }
            Op::Append(member) => {
                let score = model.0.last().map_or(0.0, |last| last.0);
                let score = if score.is_finite() { score + 1.0 } else { score };
                assert_eq!(set.insert(&member, score), model.insert(&member, score));
            }
            Op::Remove(member) => assert_eq!(set.remove(&member), model.remove(&member)),
            Op::RemoveRange(start, len) => remove_range(&mut set, &mut model, start, len),
            Op::TrimFront(len) => remove_range(&mut set, &mut model, 0, len),
            Op::Freeze => frozen.push((set.freeze(), entries(set.iter()))),
        }
        same(&set, &model);
    }
    for (frozen, expected) in frozen {
        assert_eq!(frozen.len(), expected.len());
        assert_eq!(entries(frozen.iter()), expected);
    }
}

fn remove_range(set: &mut SortedSet, model: &mut Model, start: usize, len: usize) {
    let start = start.min(set.len());
    let ranks = start..(start + len).min(set.len());
    let mut shown = Vec::new();
    set.remove_range(ranks.clone(), |member, score| shown.push((score, member.to_vec())));
    assert_eq!(shown, model.0.drain(ranks).collect::<Vec<_>>());
}

/// The set that its members make in one go.
fn copied(set: &SortedSet) -> SortedSet {
    let entries: Vec<(Vec<u8>, f64)> = set.iter().map(|(it, score)| (it.to_vec(), score)).collect();
    let named = entries.iter().map(|(member, score)| (Name::of(member), *score));
    SortedSet::from_sorted(&named.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_small_set_is_what_the_model_is(ops in vec(op(), 0..120)) {
        check(SortedSet::new(), ops);
    }

    #[test]
    fn a_big_set_is_what_the_model_is(ops in vec(op(), 0..160)) {
        let mut set = SortedSet::new();
        set.grow();
        check(set, ops);
    }
}

/// Compares a set with a plain map, whole and by a scan in steps of ten.
fn agrees(set: &SortedSet, model: &BTreeMap<Vec<u8>, f64>) {
    let mut expected: Vec<(&[u8], f64)> = model.iter().map(|(it, score)| (&**it, *score)).collect();
    let (mut scanned, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = set.scan(cursor, 10, |member, score| scanned.push((member, score)));
        if cursor == 0 {
            break;
        }
    }
    scanned.sort_by(|a, b| a.0.cmp(&b.0));
    let shown = scanned.iter().map(|(member, score)| (&**member, *score));
    assert!(shown.eq(expected.iter().copied()), "a scan shows each member once");
    expected.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(b.0)));
    let listed = set.iter().map(|(member, score)| (member.to_vec(), score));
    let in_order = expected.iter().map(|(member, score)| (member.to_vec(), *score));
    assert!(listed.eq(in_order), "all members, in order");
    for (rank, entry) in expected.iter().enumerate().step_by(61) {
        let found = set.entry(rank);
        let found = found.as_ref().map(|(member, score)| (&**member, *score));
        assert_eq!((found, set.rank(entry.0)), (Some(*entry), Some(rank)));
    }
    assert!(set.entry(expected.len()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_set_of_any_size_is_what_a_map_is(len in 1u32..5_000, score_count in 1u32..50, seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut set, mut model) = (SortedSet::new(), BTreeMap::new());
        for _ in 0..len {
            let member = format!("m{}", random.u32(..2 * len)).into_bytes();
            let score = f64::from(random.u32(..score_count));
            set.insert(&member, score);
            model.insert(member, score);
        }
        agrees(&set, &model);
        model.retain(|member, _| random.bool() || set.remove(member).is_none());
        agrees(&set, &model);
        let sorted = copied(&set);
        prop_assert_eq!(sorted.is_big(), set.len() > 128);
        agrees(&sorted, &model);
    }

    #[test]
    fn members_of_one_score_are_found_by_their_bytes(
        members in vec(vec(0u8..4, 0..4), 0..200),
        probe in vec(0u8..4, 0..4),
    ) {
        let mut set = SortedSet::new();
        members.iter().for_each(|member| {
            set.insert(member, 0.0);
        });
        let below = set.iter().filter(|(member, _)| **member < *probe).count();
        prop_assert_eq!(set.partition_point(|member| member < &*probe), below);
    }
}

#[test]
fn a_set_becomes_big_with_its_129th_member_or_a_long_one() {
    let mut set = SortedSet::new();
    for number in 0..128u32 {
        set.insert(&number.to_be_bytes(), f64::from(number / 3));
    }
    assert!(!set.is_big());
    set.insert(b"one more", -1.0);
    assert!(set.is_big());
    assert_eq!((set.len(), set.rank(b"one more")), (129, Some(0)));

    let mut set = SortedSet::new();
    set.insert(&[b'x'; 64], 0.0);
    assert!(!set.is_big());
    set.insert(&[b'x'; 65], 0.0);
    assert!(set.is_big());
}

#[test]
fn a_window_that_slides_for_long_stays_small_in_memory() {
    let member = |number: u64| format!("{number:020}").into_bytes();
    for len in [1u64, 10, 60, 128] {
        let mut set = SortedSet::new();
        (0..len).for_each(|number| {
            assert_eq!(set.insert(&member(number), number as f64), Inserted::Added)
        });
        for number in len..len + 1000 {
            set.remove_range(0..1, |_, _| {});
            set.insert(&member(number), number as f64);
        }
        assert_eq!(set.len() as u64, len);
        assert!(!set.is_big());
        let per_entry = set.heap_bytes() as f64 / len as f64;
        assert!(per_entry <= 64.0 && (len < 60 || per_entry <= 44.0), "{len}: {per_entry}");
    }
}

/// What a limiter writes: numbers at or near their scores. Now and then something
/// else joins: a text, a fraction, a far or a lower score.
fn hit() -> impl Strategy<Value = (u64, i64, Option<(Vec<u8>, f64)>)> {
    let step = prop_oneof![0u64..3, 0u64..1_000, 0u64..1_000_000, 0u64..10_000_000_000];
    let distance =
        prop_oneof![8 => Just(0i64), 2 => 0i64..300, 1 => any::<i32>().prop_map(i64::from)];
    let other = prop_oneof![
        24 => Just(None),
        1 => (member(), score()).prop_map(Some),
    ];
    (step, distance, other)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_window_of_timestamps_is_what_the_model_is(
        hits in vec(hit(), 1..300),
        kept in 1usize..140,
        is_big in any::<bool>(),
    ) {
        let (mut set, mut model) = (SortedSet::new(), Model::default());
        if is_big {
            set.grow();
        }
        let mut now = 1_764_000_000_000_000u64;
        for (round, (step, distance, other)) in hits.into_iter().enumerate() {
            now += step;
            let member = now.saturating_add_signed(distance).to_string().into_bytes();
            let hits = [(member, now as f64)].into_iter().chain(other);
            for (member, score) in hits {
                let score = if set.is_big() { score } else { score + 0.0 };
                prop_assert_eq!(set.insert(&member, score), model.insert(&member, score));
            }
            let gone = model.0.len().saturating_sub(kept);
            remove_range(&mut set, &mut model, 0, gone);
            if round % 16 == 0 {
                same(&set, &model);
            }
        }
        same(&set, &model);
        let copy = copied(&set);
        // Zero and minus zero are equal here: a copy may be small.
        prop_assert!(copy.iter().eq(set.iter()));
    }
}

#[test]
fn timestamps_take_a_few_bytes_each() {
    // Microseconds within a window: as many bytes as its length takes, no more for
    // a member that is its score, and some room for what comes next.
    for (len, step_us, most) in
        [(10u64, 997, 48), (10, 1_000_000, 64), (100, 997, 384), (100, 36_000_000, 640)]
    {
        let mut set = SortedSet::new();
        for at in 0..len {
            let time = 1_764_000_000_000_000 + at * step_us;
            set.insert(time.to_string().as_bytes(), time as f64);
        }
        let bytes = set.heap_bytes();
        assert!(bytes <= most, "{len} at {step_us}: {bytes}");
    }
}

#[test]
fn members_too_big_for_one_leaf_are_kept_apart() {
    let mut set = SortedSet::new();
    for number in 0..20u8 {
        set.insert(&vec![number; 100_000], f64::from(number % 4));
    }
    assert_eq!(set.len(), 20);
    for number in 0..20u8 {
        assert_eq!(set.score(&vec![number; 100_000]), Some(f64::from(number % 4)));
    }
}

#[test]
fn a_step_of_a_scan_costs_no_more_than_what_it_shows_is_worth() {
    let mut set = SortedSet::new();
    for member in 0..20_000 {
        // Half of them have one score, the others one each.
        set.insert(format!("{member}").as_bytes(), f64::from(member.min(10_000)));
    }
    let (mut cursor, mut steps, mut seen) = (0, 0, 0);
    loop {
        cursor = set.scan(cursor, 10, |_, _| seen += 1);
        steps += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, 20_000);
    // Each step goes through the ten thousand: there must be few of them.
    assert!((20..100).contains(&steps), "{steps} steps");
}
