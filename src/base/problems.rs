//! Problems of files that people write: collected, located, reported together.
//!
//! A checker adds what it finds and goes on; the caller decides at the end. The
//! text of a problem says what is wrong and what would be right.
//!
//! A checker knows paths, not lines: it makes a [`Problem::new`], and whoever
//! read the document turns the path into a place (`yaml::Document::locate`).

use std::fmt;

/// A place in a file: 1-based line and column, as editors count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// Where in the file; `None` when the file as a whole is meant.
    pub position: Option<Position>,
    /// Path inside the document, such as `policies[2].limits[0].window`; may be empty.
    pub path: String,
    /// What is wrong, lower case, no period; with what would be right.
    pub message: String,
    /// The source line the position is on, for display; may be empty.
    pub excerpt: String,
}

impl Problem {
    /// A problem that is not located yet: no file, no position, only a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: String::new(),
            position: None,
            path: path.into(),
            message: message.into(),
            excerpt: String::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}", self.file)?;
            if let Some(Position { line, column }) = self.position {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if let (Some(Position { line, column }), false) = (self.position, self.excerpt.is_empty()) {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            let indent = " ".repeat(column.saturating_sub(1) as usize);
            write!(f, "\n  {number} | {}\n  {gutter} | {indent}^", self.excerpt)?;
        }
        Ok(())
    }
}

/// Everything found wrong in one go. Never empty when it is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Problems) {
        self.0.extend(other.0);
    }

    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each problem, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Problems {
        Problems(problems.into_iter().collect())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

/// What to say after an unknown word: the nearest known one if one is near,
/// and all of them while they are few enough to read.
///
/// Reads on from "unknown key `polices`": `; did you mean `policies`?`.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    /// More names than this are no help at the end of a line.
    const LISTED_MAX: usize = 12;

    let known: Vec<&str> = known.into_iter().collect();
    if let Some(nearest) = nearest(word, known.iter().copied()) {
        return format!("; did you mean `{nearest}`?");
    }
    match known.len() {
        0 => String::new(),
        1..=LISTED_MAX => format!("; known here: {}", known.join(", ")),
        more => format!("; {more} are known, such as {}", known[..LISTED_MAX].join(", ")),
    }
}

/// The known word that differs from `word` in the fewest letters, if they are
/// few: one in three.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Comparing takes the product of both lengths.
    const COMPARED_MAX_BYTES: usize = 64;

    if word.len() > COMPARED_MAX_BYTES {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|it| (strsim::damerau_levenshtein(word, it), it))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, nearest)| nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_like_a_compilers() {
        let problem = Problem {
            file: "policies.yaml".to_owned(),
            position: Some(Position { line: 12, column: 9 }),
            path: "policies[0].name".to_owned(),
            message: "must not be empty".to_owned(),
            excerpt: "  - name: ''".to_owned(),
        };
        let written = "policies.yaml:12:9: policies[0].name: must not be empty\n\
                       \x20 12 |   - name: ''\n\
                       \x20    |         ^";
        assert_eq!(problem.to_string(), written);
        assert_eq!(Problem::new("a.b", "is odd").to_string(), "a.b: is odd");
    }

    #[test]
    fn an_unknown_word_suggests_the_nearest_known_one() {
        let known = ["policies", "listen", "store"];
        assert_eq!(suggest("polices", known), "; did you mean `policies`?");
        assert_eq!(suggest("lsiten", known), "; did you mean `listen`?");
        assert_eq!(suggest("upstreams", known), "; known here: policies, listen, store");
        assert_eq!(suggest("x", []), "");
    }
}
