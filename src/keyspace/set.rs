//! A set: members without order.
//!
//! | form | holds | found by |
//! |---|---|---|
//! | integers | up to 512 integers, lowest first | binary search |
//! | small | up to 128 members of up to 64 bytes | scan of a [`Pack`] |
//! | big | any | hash, see [`Table`] |
//!
//! Redis calls the first form `intset`, and of the others knows only the big one,
//! `hashtable`. A set leaves a form for one that holds more, and never returns.
//!
//! A clone costs little, see [`Table`]: it is how a snapshot keeps a set as it was
//! at its cut.

use std::slice;

use super::arg::{Text, parse_integer};
use super::pack::{Pack, Texts};
use super::random::sample;
use super::sizes::block_bytes;
use super::table::{Table, TableEntries};
use crate::resp::number::NumberText;

/// Members of a set of integers; one more makes it another form.
const INTEGERS_LEN_MAX: usize = 512;

/// Members of a small set; one more makes it big.
const SMALL_LEN_MAX: usize = 128;

/// Bytes of a member of a small set; a longer one makes it big.
const SMALL_MEMBER_BYTES_MAX: usize = 64;

/// Members. See the module's header.
#[derive(Clone, Debug)]
pub struct Set {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Integers(Vec<i64>),
    Small(Pack),
    Big(Box<Table<1>>),
}

impl Default for Set {
    fn default() -> Set {
        Set::new()
    }
}

/// Reading.
impl Set {
    /// A set without members.
    pub fn new() -> Set {
        Set { form: Form::Integers(Vec::new()) }
    }

    /// Members in the set.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Integers(integers) => integers.len(),
            Form::Small(pack) => pack.len(),
            Form::Big(table) => table.len(),
        }
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True in the big form.
    pub fn is_big(&self) -> bool {
        matches!(self.form, Form::Big(_))
    }

    /// The members of a set of integers, lowest first; `None` in other forms.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.form {
            Form::Integers(integers) => Some(integers),
            _ => None,
        }
    }

    /// True if this is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Integers(integers) => {
                parse_integer(member).is_some_and(|it| integers.binary_search(&it).is_ok())
            }
            Form::Small(pack) => pack.find(member, 1).is_some(),
            Form::Big(table) => table.get(member).is_some(),
        }
    }

    /// The members.
    pub fn iter(&self) -> Members<'_> {
        Members {
            source: match &self.form {
                Form::Integers(integers) => Source::Integers(integers.iter()),
                Form::Small(pack) => Source::Pack(pack.iter()),
                Form::Big(table) => Source::Table(table.iter()),
            },
        }
    }

    /// One step of a walk that misses no member which is there throughout: some
    /// `count` members from `cursor` on, and the next cursor, 0 at the end.
    pub(super) fn scan<'a>(
        &'a self,
        cursor: u32,
        count: usize,
        mut each: impl FnMut(Text<'a>),
    ) -> u32 {
        match &self.form {
            Form::Big(table) => table.scan(cursor, count, |[member]| each(Text::Borrowed(member))),
            Form::Integers(_) | Form::Small(_) => {
                self.iter().for_each(each);
                0
            }
        }
    }

    /// A member, each as likely as any other. The set must not be empty.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> Text<'_> {
        match &self.form {
            Form::Integers(integers) => number(integers[random.usize(..integers.len())]),
            Form::Small(pack) => {
                Text::Borrowed(pack.read(pack.place_of(random.usize(..pack.len()))).0)
            }
            Form::Big(table) => {
                let [member] = table.pick(random);
                Text::Borrowed(member)
            }
        }
    }

    /// This many different members, at random. There must be so many.
    pub(super) fn sample(&self, count: usize, random: &mut fastrand::Rng) -> Vec<Text<'_>> {
        sample(count, random, self.iter(), |random| self.pick(random), |it| it.to_vec())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Integers(integers) => block_bytes(integers.capacity() * size_of::<i64>()),
            Form::Small(pack) => pack.heap_bytes(),
            Form::Big(table) => block_bytes(size_of::<Table<1>>()) + table.heap_bytes(),
        }
    }
}

/// Changing.
impl Set {
    /// Adds a member; false if it is there already.
    pub fn add(&mut self, member: &[u8]) -> bool {
        if self.outgrows(member) {
            if self.contains(member) {
                return false;
            }
            self.grow(member);
        }
        match &mut self.form {
            Form::Integers(integers) => {
                let Some(integer) = parse_integer(member) else { return false };
                let Err(at) = integers.binary_search(&integer) else { return false };
                if integers.len() == integers.capacity() {
                    integers.reserve_exact(1 + integers.len() / 4);
                }
                integers.insert(at, integer);
                true
            }
            Form::Small(pack) => {
                let is_new = pack.find(member, 1).is_none();
                if is_new {
                    pack.push(member);
                }
                is_new
            }
            Form::Big(table) => {
                let spot = table.find(member);
                if spot.is_free() {
                    table.add_at(spot, [member]);
                }
                spot.is_free()
            }
        }
    }

    /// Takes a member out, after showing `was` its place, to put it back to.
    /// False if it is not there.
    pub(super) fn remove(&mut self, member: &[u8], was: impl FnOnce(u32)) -> bool {
        match &mut self.form {
            Form::Integers(integers) => {
                let found = parse_integer(member).map(|it| integers.binary_search(&it));
                let Some(Ok(at)) = found else { return false };
                was(at as u32);
                integers.remove(at);
                true
            }
            Form::Small(pack) => {
                let Some(place) = pack.find(member, 1) else { return false };
                was(place as u32);
                pack.splice(place..pack.read(place).1, 1, &[]);
                true
            }
            Form::Big(table) => table.remove(member, |_| was(0)),
        }
    }

    /// Undoes [`Set::remove`]: everything else must be as it was then.
    pub(super) fn put_back(&mut self, place: u32, member: &[u8]) {
        match &mut self.form {
            Form::Small(pack) => {
                pack.splice(place as usize..place as usize, 0, &[member]);
            }
            Form::Integers(_) | Form::Big(_) => {
                self.add(member);
            }
        }
    }

    /// True if adding this member makes the set another form, unless it is there.
    pub(super) fn outgrows(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Integers(integers) => {
                integers.len() >= INTEGERS_LEN_MAX || parse_integer(member).is_none()
            }
            Form::Small(pack) => {
                pack.len() >= SMALL_LEN_MAX || member.len() > SMALL_MEMBER_BYTES_MAX
            }
            Form::Big(_) => false,
        }
    }

    /// Takes on the least form that holds the members and this one too.
    fn grow(&mut self, member: &[u8]) {
        if self.len() < SMALL_LEN_MAX && member.len() <= SMALL_MEMBER_BYTES_MAX {
            let mut pack = Pack::default();
            self.iter().for_each(|it| pack.push(&it));
            self.form = Form::Small(pack);
        } else {
            let mut table = Box::new(Table::new());
            self.iter().for_each(|it| table.add([&*it]));
            self.form = Form::Big(table);
        }
    }
}

/// The members of a set.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Integers(slice::Iter<'a, i64>),
    Pack(Texts<'a>),
    Table(TableEntries<'a, 1>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        match &mut self.source {
            Source::Integers(integers) => integers.next().map(|it| number(*it)),
            Source::Pack(texts) => texts.next().map(Text::Borrowed),
            Source::Table(entries) => entries.next().map(|[member]| Text::Borrowed(member)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match &self.source {
            Source::Integers(integers) => integers.len(),
            Source::Pack(texts) => texts.len(),
            Source::Table(entries) => entries.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Members<'_> {}

fn number<'a>(integer: i64) -> Text<'a> {
    Text::Number(NumberText::integer(integer))
}
