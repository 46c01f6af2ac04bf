//! A hash: fields with values.
//!
//! | form | holds | found by | order |
//! |---|---|---|---|
//! | small | up to 512 fields, texts of up to 64 bytes | scan of a [`Pack`] | as they came |
//! | big | any | hash, see [`Table`] | none |
//!
//! The limits are those of Redis, where the forms are called `listpack` and
//! `hashtable`, and as there a hash that has become big stays so.
//!
//! A clone costs little, see [`Table`]: it is how a snapshot keeps a hash as it
//! was at its cut.

use super::pack::{Pack, Texts};
use super::random::sample;
use super::sizes::block_bytes;
use super::table::{Table, TableEntries};

/// Fields of a small hash; one more makes it big.
const SMALL_LEN_MAX: usize = 512;

/// Bytes of a text in a small hash; a longer one makes it big.
const SMALL_TEXT_BYTES_MAX: usize = 64;

/// A field and its value are two texts.
const WIDTH: usize = 2;

/// Fields with values. See the module's header.
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Field, value, field, value …
    Small(Pack),
    Big(Box<Table<WIDTH>>),
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

/// Reading.
impl Hash {
    /// A hash without fields.
    pub fn new() -> Hash {
        Hash { form: Form::Small(Pack::default()) }
    }

    /// Fields in the hash.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(pack) => pack.len() / WIDTH,
            Form::Big(table) => table.len(),
        }
    }

    /// True without fields.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True in the big form.
    pub fn is_big(&self) -> bool {
        matches!(self.form, Form::Big(_))
    }

    /// The value of a field.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.form {
            Form::Small(pack) => {
                let (_, value) = pack.read(pack.find(field, WIDTH)?);
                Some(pack.read(value).0)
            }
            Form::Big(table) => table.get(field).map(|[_, value]| value),
        }
    }

    /// Fields with their values.
    pub fn iter(&self) -> Fields<'_> {
        Fields {
            source: match &self.form {
                Form::Small(pack) => Source::Pack(pack.iter()),
                Form::Big(table) => Source::Table(table.iter()),
            },
        }
    }

    /// One step of a walk that misses no field which is there throughout: some
    /// `count` fields from `cursor` on, and the next cursor, 0 at the end.
    pub(super) fn scan<'a>(
        &'a self,
        cursor: u32,
        count: usize,
        mut each: impl FnMut(&'a [u8], &'a [u8]),
    ) -> u32 {
        match &self.form {
            Form::Small(_) => {
                self.iter().for_each(|(field, value)| each(field, value));
                0
            }
            Form::Big(table) => table.scan(cursor, count, |[field, value]| each(field, value)),
        }
    }

    /// A field with its value, each as likely as any other. The hash must not be
    /// empty.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> (&[u8], &[u8]) {
        match &self.form {
            Form::Small(pack) => {
                let place = pack.place_of(WIDTH * random.usize(..self.len()));
                let (field, value) = pack.read(place);
                (field, pack.read(value).0)
            }
            Form::Big(table) => table.pick(random).into(),
        }
    }

    /// This many different fields with their values, at random. There must be so
    /// many.
    pub(super) fn sample(&self, count: usize, random: &mut fastrand::Rng) -> Vec<(&[u8], &[u8])> {
        sample(count, random, self.iter(), |random| self.pick(random), |(field, _)| *field)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Small(pack) => pack.heap_bytes(),
            Form::Big(table) => block_bytes(size_of::<Table<WIDTH>>()) + table.heap_bytes(),
        }
    }
}

/// Changing.
impl Hash {
    /// Sets the value of a field; true if the field is new.
    pub fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.set(field, value, |_| {})
    }

    /// Sets the value of a field, after showing `was` the value it had; true if
    /// the field is new.
    pub(super) fn set(&mut self, field: &[u8], value: &[u8], was: impl FnOnce(&[u8])) -> bool {
        if self.outgrows(field, value) {
            self.grow();
        }
        match &mut self.form {
            Form::Small(pack) => {
                let Some(place) = pack.find(field, WIDTH) else {
                    let end = pack.end();
                    pack.splice(end..end, 0, &[field, value]);
                    return true;
                };
                let (_, start) = pack.read(place);
                let (old, end) = pack.read(start);
                was(old);
                pack.splice(start..end, 1, &[value]);
                false
            }
            Form::Big(table) => {
                let spot = table.find(field);
                if spot.is_free() {
                    table.add_at(spot, [field, value]);
                } else {
                    table.replace_at(spot, value, was);
                }
                spot.is_free()
            }
        }
    }

    /// Takes a field out, after showing `was` its value and its place, to put it
    /// back to. False if it is not there.
    pub(super) fn remove(&mut self, field: &[u8], was: impl FnOnce(&[u8], u32)) -> bool {
        match &mut self.form {
            Form::Small(pack) => {
                let Some(place) = pack.find(field, WIDTH) else { return false };
                let (value, end) = pack.read(pack.read(place).1);
                was(value, place as u32);
                pack.splice(place..end, WIDTH, &[]);
                true
            }
            Form::Big(table) => table.remove(field, |[_, value]| was(value, 0)),
        }
    }

    /// Undoes [`Hash::remove`]: everything else must be as it was then.
    pub(super) fn put_back(&mut self, place: u32, field: &[u8], value: &[u8]) {
        match &mut self.form {
            Form::Small(pack) => {
                pack.splice(place as usize..place as usize, 0, &[field, value]);
            }
            Form::Big(table) => table.add([field, value]),
        }
    }

    /// True if setting this field makes a small hash big.
    pub(super) fn outgrows(&self, field: &[u8], value: &[u8]) -> bool {
        let Form::Small(pack) = &self.form else { return false };
        field.len().max(value.len()) > SMALL_TEXT_BYTES_MAX
            || self.len() >= SMALL_LEN_MAX && pack.find(field, WIDTH).is_none()
    }

    /// Takes on the big form.
    fn grow(&mut self) {
        let mut table = Box::new(Table::new());
        self.iter().for_each(|(field, value)| table.add([field, value]));
        self.form = Form::Big(table);
    }
}

/// The fields of a hash with their values.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Pack(Texts<'a>),
    Table(TableEntries<'a, WIDTH>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        match &mut self.source {
            Source::Pack(texts) => Some((texts.next()?, texts.next()?)),
            Source::Table(entries) => entries.next().map(Into::into),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = match &self.source {
            Source::Pack(texts) => texts.len() / WIDTH,
            Source::Table(entries) => entries.len(),
        };
        (len, Some(len))
    }
}

impl ExactSizeIterator for Fields<'_> {}
