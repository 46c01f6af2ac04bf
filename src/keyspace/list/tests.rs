//! A list beside a plain vector: whatever is done to both, they are alike.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Insert { at: usize, len: usize },
    Replace { at: usize, len: usize },
    Remove { at: usize, count: usize },
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    // The ends, where most happens, and anywhere.
    let at = || prop_oneof![Just(0), Just(usize::MAX), 0usize..100];
    let len = || prop_oneof![12 => 0usize..12, 1 => 50usize..80, 1 => 250usize..300];
    prop_oneof![
        8 => (at(), len()).prop_map(|(at, len)| Step::Insert { at, len }),
        2 => (at(), len()).prop_map(|(at, len)| Step::Replace { at, len }),
        3 => (at(), 1usize..5).prop_map(|(at, count)| Step::Remove { at, count }),
        1 => (at(), 1usize..60).prop_map(|(at, count)| Step::Remove { at, count }),
        1 => Just(Step::Freeze),
    ]
}

fn alike(list: &List, model: &[Vec<u8>]) {
    assert_eq!(list.len(), model.len());
    assert!(list.iter().eq(model.iter()));
    assert!(list.iter().rev().eq(model.iter().rev()));
}

proptest! {
    #[test]
    fn a_list_is_the_vector_of_its_elements(steps in vec(step(), 0..250)) {
        let (mut list, mut model) = (List::new(), Vec::<Vec<u8>>::new());
        let mut frozen = Vec::new();
        for (round, step) in steps.iter().enumerate() {
            let text = |len: usize| vec![round as u8; len];
            match *step {
                Step::Insert { at, len } => {
                    let at = at.min(model.len());
                    list.insert(at, &text(len));
                    model.insert(at, text(len));
                }
                Step::Replace { at, len } if !model.is_empty() => {
                    let at = at.min(model.len() - 1);
                    list.replace(at, &text(len), |old| assert_eq!(*old, *model[at]));
                    model[at] = text(len);
                }
                Step::Remove { at, count } if !model.is_empty() => {
                    let at = at.min(model.len() - 1);
                    let end = (at + count).min(model.len());
                    let mut seen = Vec::new();
                    list.remove(at..end, |text| seen.push(text.to_vec()));
                    assert_eq!(seen, model.drain(at..end).collect::<Vec<_>>());
                }
                Step::Freeze => frozen.push((list.clone(), model.clone())),
                _ => {}
            }
            alike(&list, &model);
            if let Form::Big(blocks) = &list.form {
                blocks.check();
            }
        }
        for index in 0..model.len() {
            prop_assert_eq!(list.get(index), Some(&*model[index]));
            prop_assert!(list.range(index..model.len()).eq(model[index..].iter()));
        }
        for (list, model) in &frozen {
            alike(list, model);
        }
    }
}

#[test]
fn a_queue_keeps_its_size() {
    let mut list = List::new();
    for round in 0..10_000 {
        list.push_back(b"an element of a queue");
        if round >= 50 {
            list.remove(0..1, |_| {});
        }
    }
    assert_eq!(list.len(), 50);
    assert!(list.heap_bytes() < 8_000, "{} bytes", list.heap_bytes());
}
