//! Different elements of a collection, picked at random.

use hashbrown::HashSet;

/// From a collection of more than this many times the count, elements are picked
/// one by one; from a smaller one they are taken on a walk over all of it.
const PICKED_SHARE: usize = 3;

/// `count` different elements of `all`, each set of them as likely as any other.
/// There are at least so many. `pick` gives any element; `name` tells them apart.
pub(super) fn sample<E, N: AsRef<[u8]>>(
    count: usize,
    random: &mut fastrand::Rng,
    all: impl ExactSizeIterator<Item = E>,
    mut pick: impl FnMut(&mut fastrand::Rng) -> E,
    name: impl Fn(&E) -> N,
) -> Vec<E> {
    let len = all.len();
    debug_assert!(count <= len);
    if count.saturating_mul(PICKED_SHARE) > len {
        let (mut ahead, mut wanted) = (len, count);
        let is_taken = |_: &E| {
            let takes = random.usize(..ahead) < wanted;
            ahead -= 1;
            wanted -= usize::from(takes);
            takes
        };
        return all.filter(is_taken).collect();
    }
    let (mut taken, mut known) = (Vec::with_capacity(count), HashSet::with_capacity(count));
    while taken.len() < count {
        let element = pick(random);
        if known.insert(name(&element).as_ref().to_vec()) {
            taken.push(element);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_element_is_as_often_in_a_sample_as_every_other() {
        let all: Vec<String> = (0..20).map(|it| it.to_string()).collect();
        let mut random = fastrand::Rng::with_seed(1);
        for count in [3, 15] {
            let mut counts = BTreeMap::<&String, usize>::new();
            for _ in 0..10_000 {
                let pick = |random: &mut fastrand::Rng| &all[random.usize(..all.len())];
                let taken = sample(count, &mut random, all.iter(), pick, |it| it.as_bytes());
                assert_eq!(taken.len(), count);
                taken.into_iter().for_each(|it| *counts.entry(it).or_default() += 1);
            }
            let expected = 10_000 * count / 20;
            let spread = expected / 10;
            assert!(
                counts.len() == 20 && counts.values().all(|it| it.abs_diff(expected) < spread),
                "{counts:?}",
            );
        }
    }
}
