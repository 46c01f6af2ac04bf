//! Errors with their causes, for people: `this: because of that: and that`.

use std::error::Error;
use std::fmt;

/// Displays an error and every cause behind it, outermost first.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn causes_follow_what_they_caused() {
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(Chain(&error).to_string(), "cannot start: invalid digit found in string");
    }
}
