//! The generator behind `math.random`: the one that Redis builds into its Lua,
//! so that a script draws the same numbers here, there and on every machine.
//!
//! It is the 48-bit linear congruential generator of `lrand48`. One state serves
//! all calls of an engine; it starts at a fixed value and is not seeded anew.
//!
//! Not for secrets: whoever knows one number knows the next.

/// See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The last 48 bits count.
    const MASK: u64 = (1 << 48) - 1;
    /// Redis divides by the largest 31-bit integer.
    const MAX: u64 = (1 << 31) - 1;

    /// The generator as it is when a server starts.
    pub(super) fn new() -> Random {
        Random { state: 0x1234_ABCD_330E }
    }

    /// `math.randomseed`: only 32 bits of the seed are used.
    pub(super) fn seed(&mut self, seed: u32) {
        self.state = (u64::from(seed) << 16) | 0x330E;
    }

    /// The next number from 0 up to, but not including, 1.
    pub(super) fn next(&mut self) -> f64 {
        self.state = (self.state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB)) & Random::MASK;
        let drawn = (self.state >> 17) % Random::MAX;
        drawn as f64 / Random::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_redis() {
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-13, "{found} is not {expected}");
        };
        let mut random = Random::new();
        close(random.next(), 0.396_464_773_638_39);
        close(random.next(), 0.840_485_369_712_34);
        random.seed(5);
        close(random.next(), 0.524_839_579_372_13);
        close(random.next(), 0.272_854_301_739_88);
        close(random.next(), 0.788_599_468_669_2);
    }
}
