//! What commands on values of every kind have in common: how they find one, make
//! one, and let the key of a collection go with its last element.

use super::REPEATS_MAX;
use crate::keyspace::arg::Arg;
use crate::keyspace::error::CommandError;
use crate::keyspace::notices::EventClass;
use crate::keyspace::slots::{SlotId, Vacant, ValueMut};
use crate::keyspace::space::{Execution, Keyspace};
use crate::keyspace::value::{Kind, Value};

/// The collection of a key that is only read; `None` without the key.
pub(super) fn read<'a, T: Kind>(
    space: &'a mut Keyspace,
    key: Arg<'_>,
    run: &mut Execution<'_>,
) -> Result<Option<&'a T>, CommandError> {
    space.value(&key.text(), run).map(of_kind).transpose()
}

/// The same, with what chance is drawn from.
pub(super) fn read_by_chance<'a, T: Kind>(
    space: &'a mut Keyspace,
    key: Arg<'_>,
    run: &mut Execution<'_>,
) -> Result<(Option<&'a T>, &'a mut fastrand::Rng), CommandError> {
    let value = space.look_up(&key.text(), run).and_then(|id| space.slots.value(id));
    Ok((value.map(of_kind).transpose()?, &mut space.random))
}

/// The collections of keys that are only read; none where there is no key.
pub(super) fn read_all<'a, T: Kind>(
    space: &'a mut Keyspace,
    keys: &[Arg<'_>],
    run: &mut Execution<'_>,
) -> Result<Vec<Option<&'a T>>, CommandError> {
    let mut ids = Vec::with_capacity(keys.len());
    for key in keys {
        let id = space.look_up(&key.text(), run);
        id.and_then(|id| space.slots.value(id)).map(of_kind::<T>).transpose()?;
        ids.push(id);
    }
    let space = &*space;
    let held = |id: Option<SlotId>| id.and_then(|id| T::of(space.slots.value(id)?));
    Ok(ids.into_iter().map(held).collect())
}

/// Where a key stands, or belongs, and its collection as it is.
pub(super) fn locate<'a, T: Kind>(
    space: &'a mut Keyspace,
    key: &[u8],
    run: &mut Execution<'_>,
) -> Result<(Result<SlotId, Vacant>, Option<&'a T>), CommandError> {
    let place = space.find(key, run);
    Ok((place, at(space, place)?))
}

/// The collection at a place.
pub(super) fn at<T: Kind>(
    space: &Keyspace,
    place: Result<SlotId, Vacant>,
) -> Result<Option<&T>, CommandError> {
    place.ok().and_then(|id| space.slots.value(id)).map(of_kind).transpose()
}

/// The collection at a place, to be changed; a new one if nothing is there.
pub(super) fn open<'a, T: Kind + Default>(
    space: &'a mut Keyspace,
    at: Result<SlotId, Vacant>,
    key: &[u8],
    run: &mut Execution<'_>,
) -> Result<ValueMut<'a, T>, CommandError> {
    let id = match at {
        Ok(id) => id,
        Err(vacant) => space.create(vacant, key, T::default().into(), run),
    };
    change(space, id)
}

/// The collection of a slot, to be changed.
pub(super) fn change<T: Kind>(
    space: &mut Keyspace,
    id: SlotId,
) -> Result<ValueMut<'_, T>, CommandError> {
    space.slots.change(id).ok_or(CommandError::WrongType)
}

/// Removes a key and tells of it.
pub(super) fn remove(space: &mut Keyspace, id: SlotId, key: &[u8], run: &mut Execution<'_>) {
    space.slots.free(id);
    run.notify(EventClass::GENERIC, "del", key);
}

/// Sets a key to what a command such as `SINTERSTORE` came to: the key has no
/// deadline then, and is gone when `value` is none.
pub(super) fn store(
    space: &mut Keyspace,
    args: &[Arg<'_>],
    value: Option<Value>,
    (class, event): (EventClass, &'static str),
    run: &mut Execution<'_>,
) {
    let key = args[1].text();
    if let Some(value) = value {
        let place = space.find(&key, run);
        let id = space.put(place, &key, value, run);
        if space.slots.deadline(id).is_some() {
            space.slots.set_deadline(id, None);
        }
        run.notify(class, event, &key);
        run.record(args);
    } else if let Ok(id) = space.slots.find(&key) {
        // Redis removes what is there, expired or not.
        remove(space, id, &key, run);
        run.record(args);
    }
}

/// An argument that is a number above 0, and is called `name`.
pub(super) fn positive(arg: Arg<'_>, name: &'static str) -> Result<usize, CommandError> {
    match arg.count() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(CommandError::NotAboveZero(name)),
    }
}

/// How many elements to pick at random: so many different ones, or so many
/// picks of which each may be any.
#[derive(Clone, Copy, Debug)]
pub(super) enum Picks {
    Different(usize),
    Repeated(usize),
}

impl Picks {
    /// Reads a count, of which a negative one means that elements may repeat.
    pub(super) fn parse(count: Arg<'_>) -> Result<Picks, CommandError> {
        let count = match count.integer()? {
            i64::MIN => return Err(CommandError::NotWithin(-i64::MAX, i64::MAX)),
            count => count,
        };
        let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        match count {
            0.. => Ok(Picks::Different(size)),
            _ if size > REPEATS_MAX => Err(CommandError::OutOfRange),
            _ => Ok(Picks::Repeated(size)),
        }
    }
}

fn of_kind<T: Kind>(value: &Value) -> Result<&T, CommandError> {
    T::of(value).ok_or(CommandError::WrongType)
}
