//! A sorted set: members ordered by score, and by their bytes within one score.
//!
//! | form | holds | found by | files |
//! |---|---|---|---|
//! | small | up to 128 members of up to 64 bytes | scan of tags, or by score | `run`, `layout` |
//! | big | any | hash index | `big`, `leaves` of `run`, `ranks` |
//!
//! The limits are those of Redis, and as there a set that has become big stays
//! so. Both forms are made for what a limiter does: members come in order at the
//! end and leave at the front.
//!
//! A score is never nan; the commands and the loader see to that. `0.0` and `-0.0`
//! are equal; as in Redis, a big set keeps each as it came, a small one keeps zero.

mod big;
mod layout;
mod leaves;
mod ranks;
mod run;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::big::Big;
pub use self::layout::Name;
use self::leaves::{Cursor, FrozenLeaves};
use self::run::Run;
use super::arg::Text;

/// Members of a small set; one more makes it big.
pub const SMALL_LEN_MAX: usize = 128;

/// Bytes of a member of a small set; a longer one makes it big.
const SMALL_MEMBER_BYTES_MAX: usize = 64;

/// Members with scores, in order. See the module's header.
#[derive(Clone, Debug)]
pub struct SortedSet {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Run<true>),
    Big(Box<Big>),
}

/// What [`SortedSet::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inserted {
    /// The member is new.
    Added,
    /// The member was there with this score.
    Rescored(f64),
    /// The member was there with an equal score.
    Unchanged,
}

impl Default for SortedSet {
    fn default() -> SortedSet {
        SortedSet::new()
    }
}

/// Reading.
impl SortedSet {
    /// An empty set.
    pub fn new() -> SortedSet {
        SortedSet { form: Form::Small(Run::default()) }
    }

    /// Members in the set.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(run) => run.len(),
            Form::Big(big) => big.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True in the big form: then [`SortedSet::freeze`] is much cheaper than
    /// writing the set down.
    pub fn is_big(&self) -> bool {
        matches!(self.form, Form::Big(_))
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.form {
            Form::Small(run) => run.find(member).map(|at| run.score(at)),
            Form::Big(big) => big.score(member),
        }
    }

    /// How many members stand before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.form {
            Form::Small(run) => run.find(member),
            Form::Big(big) => big.rank(member),
        }
    }

    /// How many members have a lower score, or with `inclusive` one not higher.
    pub fn rank_of_score(&self, score: f64, inclusive: bool) -> usize {
        match &self.form {
            Form::Small(run) => run.rank_of_score(score, inclusive),
            Form::Big(big) => big.leaves().rank_of_score(score, inclusive),
        }
    }

    /// Members with their scores, lowest first.
    pub fn iter(&self) -> Entries<'_> {
        self.range(0..self.len())
    }

    /// Shows all members with their scores, lowest first, and makes no text of numbers.
    pub fn show(&self, mut each: impl FnMut(Name<'_>, f64)) {
        match &self.form {
            Form::Small(run) => run.show(each),
            Form::Big(big) => big.leaves().iter().for_each(|leaf| leaf.show(&mut each)),
        }
    }

    /// The members of these ranks with their scores, lowest first.
    pub fn range(&self, ranks: Range<usize>) -> Entries<'_> {
        debug_assert!(ranks.start <= ranks.end && ranks.end <= self.len());
        let remaining = ranks.len();
        let ends = match &self.form {
            Form::Small(run) => Ends::Run(run, ranks),
            Form::Big(big) => {
                let front = big.leaves().cursor(ranks.start);
                let back = front.ahead(remaining).unwrap_or_else(|| big.leaves().cursor(ranks.end));
                Ends::Leaves(front, back)
            }
        };
        Entries { ends, remaining }
    }

    /// The member of a rank with its score.
    pub fn entry(&self, rank: usize) -> Option<(Text<'_>, f64)> {
        if rank < self.len() { self.range(rank..rank + 1).next() } else { None }
    }

    /// How many members come before the first that `is_before` refuses, where it
    /// accepts those before and refuses those behind.
    pub fn partition_point(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.entry(middle) {
                Some((member, _)) if is_before(&member) => from = middle + 1,
                _ => to = middle,
            }
        }
        from
    }

    /// Shows members in steps: about `count` from a cursor on, which is 0 at first.
    /// Returns the cursor of the next step, 0 at the end. A member that is there
    /// from the first step to the last is shown, whatever changes in between.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut each: impl FnMut(Text<'a>, f64),
    ) -> u64 {
        match (&self.form, u32::try_from(cursor)) {
            (Form::Small(_), _) => {
                self.iter().for_each(|(member, score)| each(member, score));
                0
            }
            (Form::Big(_), Err(_)) => 0,
            (Form::Big(big), Ok(cursor)) => {
                let (hashes, next) = big.scan_worth_while(cursor, count);
                for same_score in hashes.chunk_by(|a, b| a.0 == b.0) {
                    let ranks = big.ranks_of(same_score[0].0);
                    for (member, score) in self.range(ranks) {
                        let hash = big.hash(&member);
                        if same_score.binary_search_by_key(&hash, |it| it.1).is_ok() {
                            each(member, score);
                        }
                    }
                }
                next.map_or(0, u64::from)
            }
        }
    }

    /// The set as it is now, to be read elsewhere while this one changes. Copies
    /// a small set; of a big one a pointer for a hundred thousand members.
    pub fn freeze(&self) -> FrozenSortedSet {
        let form = match &self.form {
            Form::Small(run) => FrozenForm::Small(run.clone()),
            Form::Big(big) => FrozenForm::Big(big.leaves().freeze()),
        };
        FrozenSortedSet { form }
    }
}

/// Changing.
impl SortedSet {
    /// Adds a member, or changes its score. The score must not be nan.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Inserted {
        match self.score(member) {
            None => {
                self.add(member, score);
                Inserted::Added
            }
            Some(current) if current == score => Inserted::Unchanged,
            Some(current) => {
                self.rescore(member, score);
                Inserted::Rescored(current)
            }
        }
    }

    /// A set without members, in the form that so many will need of which the longest
    /// is so long. Only the big form knows minus zero.
    pub fn expecting(len: usize, member_bytes_max: usize) -> SortedSet {
        if len <= SMALL_LEN_MAX && member_bytes_max <= SMALL_MEMBER_BYTES_MAX {
            return SortedSet::new();
        }
        SortedSet { form: Form::Big(Box::new(Big::new())) }
    }

    /// A set of these members, which are distinct and in order.
    pub fn from_sorted(entries: &[(Name<'_>, f64)]) -> SortedSet {
        let longest = entries.iter().map(|(name, _)| match name {
            Name::Number(_) => 0, // Any number is a member of a small set.
            Name::Text(text) => text.len(),
        });
        let mut set = SortedSet::expecting(entries.len(), longest.max().unwrap_or(0));
        match &mut set.form {
            Form::Small(_) if entries.is_empty() => {}
            Form::Small(run) => *run = Run::of_sorted(entries),
            // A set that ends big begins so: each entry is moved once.
            Form::Big(big) => {
                entries.iter().for_each(|(name, score)| big.add(&name.text(), *score));
            }
        }
        set
    }

    /// Takes a member out; its score, if it was there.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.form {
            Form::Small(run) => {
                let at = run.find(member)?;
                let score = run.score(at);
                run.remove(at..at + 1);
                Some(score)
            }
            Form::Big(big) => big.remove(member),
        }
    }

    /// Takes out the members of these ranks, after showing each to `each`.
    pub fn remove_range(&mut self, ranks: Range<usize>, mut each: impl FnMut(&[u8], f64)) {
        match &mut self.form {
            Form::Small(run) => {
                for at in ranks.clone() {
                    let (member, score) = run.entry(at);
                    each(&member, score);
                }
                run.remove(ranks);
            }
            Form::Big(big) => big.remove_range(ranks, each),
        }
    }

    /// Adds a member that is not there.
    pub(super) fn add(&mut self, member: &[u8], score: f64) {
        debug_assert!(!score.is_nan() && self.score(member).is_none());
        if let Form::Small(run) = &self.form
            && !fits_small(run.len(), member)
        {
            self.grow();
        }
        match &mut self.form {
            Form::Small(run) => {
                let (Ok(at) | Err(at)) = run.search(score, member);
                // Adding zero takes the sign off minus zero and changes nothing else.
                run.insert(at, score + 0.0, member);
            }
            Form::Big(big) => big.add(member, score),
        }
    }

    /// Changes the score of a member that is there.
    pub(super) fn rescore(&mut self, member: &[u8], score: f64) {
        self.remove(member);
        self.add(member, score);
    }

    /// Takes on the big form.
    fn grow(&mut self) {
        let mut big = Box::new(Big::new());
        self.iter().for_each(|(member, score)| big.add(&member, score));
        self.form = Form::Big(big);
    }

    /// Bytes on the heap, in constant time.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Small(run) => run.heap_bytes(),
            Form::Big(big) => big.heap_bytes(),
        }
    }
}

/// True if a small set of `len` members may take this one in.
fn fits_small(len: usize, member: &[u8]) -> bool {
    len < SMALL_LEN_MAX && member.len() <= SMALL_MEMBER_BYTES_MAX
}

/// A sorted set as it was at a moment, see [`SortedSet::freeze`]. It may be sent
/// to another thread and read at leisure.
#[derive(Clone, Debug)]
pub struct FrozenSortedSet {
    form: FrozenForm,
}

#[derive(Clone, Debug)]
enum FrozenForm {
    /// A copy.
    Small(Run<true>),
    /// The leaves, shared with the set until it changes them.
    Big(FrozenLeaves),
}

impl FrozenSortedSet {
    /// Members in the set.
    pub fn len(&self) -> usize {
        match &self.form {
            FrozenForm::Small(run) => run.len(),
            FrozenForm::Big(leaves) => leaves.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Members with their scores, lowest first.
    pub fn iter(&self) -> Entries<'_> {
        let ends = match &self.form {
            FrozenForm::Small(run) => Ends::Run(run, 0..run.len()),
            FrozenForm::Big(leaves) => {
                let [front, back] = leaves.ends();
                Ends::Leaves(front, back)
            }
        };
        Entries { ends, remaining: self.len() }
    }
}

/// Members with their scores, lowest first; from both ends.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    ends: Ends<'a>,
    remaining: usize,
}

/// The places of the next entry and behind the last.
#[derive(Clone, Debug)]
enum Ends<'a> {
    Run(&'a Run<true>, Range<usize>),
    Leaves(Cursor<'a>, Cursor<'a>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Text<'a>, f64);

    fn next(&mut self) -> Option<(Text<'a>, f64)> {
        self.remaining = self.remaining.checked_sub(1)?;
        match &mut self.ends {
            Ends::Run(run, places) => places.next().map(|at| run.entry(at)),
            Ends::Leaves(front, _) => front.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<'a> DoubleEndedIterator for Entries<'a> {
    fn next_back(&mut self) -> Option<(Text<'a>, f64)> {
        self.remaining = self.remaining.checked_sub(1)?;
        match &mut self.ends {
            Ends::Run(run, places) => places.next_back().map(|at| run.entry(at)),
            Ends::Leaves(_, back) => back.next_back(),
        }
    }
}

impl ExactSizeIterator for Entries<'_> {}
