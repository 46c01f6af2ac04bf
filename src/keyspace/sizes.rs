//! What an allocation really takes.
//!
//! The process allocates with mimalloc, which keeps a page for each class of
//! sizes; a block takes the whole of its class. Counting classes and not what
//! was asked for is what keeps the accounted bytes close to those of the process.

/// Bytes that a block of `bytes` takes.
///
/// Classes are 8, then multiples of 16 up to 64, then four to each doubling:
/// 80, 96, 112, 128, 160, …
pub fn block_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=64 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_the_whole_of_its_class() {
        for (asked, taken) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (33, 48),
            (64, 64),
            (65, 80),
            (80, 80),
            (113, 128),
            (129, 160),
            (1_000, 1_024),
            (1_025, 1_280),
            (100_000, 114_688),
        ] {
            assert_eq!(block_bytes(asked), taken, "{asked}");
        }
    }
}
