//! YAML documents that people write, read with located errors.
//!
//! The one place that calls `serde_yaml`. A document is read in two passes over
//! the same text:
//!
//! 1. a *walk* that builds nothing: every mapping is checked for duplicate keys
//!    and merge keys, and depth and number of nodes are bounded, so that a file
//!    of aliases of aliases is refused before it is worth anything;
//! 2. the typed read into `T`, whose structs deny unknown fields.
//!
//! Only when something is wrong does a second walk note where each node stands,
//! so that a checker can name a path (`policies[2].limits[0].window`) and the
//! reader of the message sees a line and a column.
//!
//! # Not here
//!
//! Reading files, and what a document means. YAML beyond what a configuration
//! needs: tags, merge keys, several documents in one file. Anchors and aliases
//! work, within the bounds.

mod depth;
mod told;
mod walk;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use self::told::Told;
use self::walk::{Places, Positions, Walk, join};
use crate::base::problems::{Position, Problem, Problems, nearest};

/// No file that people write is larger.
pub const SIZE_MAX_BYTES: usize = 1 << 20;

/// Unknown keys reported at once.
const UNKNOWN_KEYS_MAX: usize = 20;

/// Each unknown key costs a read of the document; this is all that is read.
const REREAD_MAX_BYTES: usize = 1 << 20;

/// Problems shown of one document.
const PROBLEMS_MAX: usize = 50;

/// A source line longer than this is not shown under a problem.
const EXCERPT_MAX_CHARS: usize = 160;

/// A document as read: its value, and where each part of it stands.
#[derive(Debug)]
pub struct Document<T> {
    /// What was written.
    pub value: T,
    source: Source,
}

impl<T> Document<T> {
    /// Gives each problem that names only a path its file, position and source
    /// line, and puts them in the order of the file. A path that is not in the
    /// document gets the place of the nearest part around it.
    pub fn locate(&self, problems: Problems) -> Problems {
        self.source.locate(problems)
    }

    /// The value, and the text to locate problems in once the value is used up.
    pub fn into_parts(self) -> (T, Source) {
        (self.value, self.source)
    }

    /// Where the value at `path` stands: a scalar at its first character, a
    /// mapping or sequence at its key, or in a sequence at its first entry. The
    /// nearest enclosing part if there is nothing at `path`.
    pub fn position(&self, path: &str) -> Option<Position> {
        self.source.places().position(path)
    }
}

/// The text of a file as read from a disk.
///
/// # Errors
/// Too large, or not UTF-8; the first bad byte is named.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problems> {
    let problem = |position, message| {
        Problems::from(Problem { file: file.to_owned(), position, ..Problem::new("", message) })
    };
    if bytes.len() > SIZE_MAX_BYTES {
        return Err(problem(None, too_large(bytes.len())));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let column = valid.chars().rev().take_while(|c| *c != '\n').count();
        let position = position(valid.matches('\n').count(), column);
        problem(Some(position), "is not UTF-8 text".to_owned())
    })
}

/// Reads one document into `T`, whose structs should deny unknown fields.
///
/// # Errors
/// Everything that can be told in one go: one syntax error, or all duplicate
/// and merge keys, or all unknown keys and the first value of a wrong kind.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<Document<T>, Problems> {
    let source = Source {
        file: file.to_owned(),
        text: text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
    };
    source.check_shape()?;
    match serde_yaml::from_str(&source.text) {
        Ok(value) => Ok(Document { value, source }),
        Err(error) => Err(source.structural_problems::<T>(error)),
    }
}

fn too_large(size: usize) -> String {
    format!("is {size} bytes; at most {SIZE_MAX_BYTES} are read")
}

/// A text and the name of its file.
#[derive(Clone, Debug)]
pub struct Source {
    file: String,
    text: String,
}

impl Source {
    /// The first pass: nothing that would cost too much or mean two things.
    fn check_shape(&self) -> Result<(), Problems> {
        if self.text.len() > SIZE_MAX_BYTES {
            let message = too_large(self.text.len());
            return Err(self.located(None, Problem::new("", message)).into());
        }
        if let Some((c, position)) = invisible(&self.text) {
            let code = u32::from(c);
            let message = format!(
                "holds the character U+{code:04X}, which is invisible or breaks lines; take it out"
            );
            return Err(self.located(Some(position), Problem::new("", message)).into());
        }
        if let Some(position) = depth::too_deep(&self.text) {
            let message = "nests lists and mappings too deeply";
            return Err(self.located(Some(position), Problem::new("", message)).into());
        }
        let mut walk = Walk::new(Positions::Skip);
        if let Err(error) = walk.run(&self.text) {
            return Err(self.syntax_problem(&error).into());
        }
        if walk.empty {
            return Err(self.located(None, Problem::new("", "is empty")).into());
        }
        if walk.suspect_count == 0 {
            return Ok(());
        }
        Err(self.report(self.places().suspects))
    }

    /// What the second pass found: each unknown key, then the first other error.
    ///
    /// A typed read stops at its first error. An unknown key can be mended, and
    /// the whole read again; after a value of a wrong kind there is nothing
    /// sensible to go on with.
    fn structural_problems<T: DeserializeOwned>(&self, first: serde_yaml::Error) -> Problems {
        let places = self.places();
        let mut problems = Problems::default();
        let mut rest: Option<Value> = serde_yaml::from_str(&self.text).ok();
        let mut error = first;
        let rounds = (REREAD_MAX_BYTES / self.text.len().max(1)).clamp(1, UNKNOWN_KEYS_MAX);
        for round in 0..rounds {
            let told = Told::of(&error);
            let Some(key) = told.unknown_key() else {
                let exact = if round == 0 { told.position } else { None };
                let position = exact.or_else(|| places.position(&told.path));
                problems.add(self.located(position, told.problem()));
                break;
            };
            let path = join(&told.path, key);
            let position = places.key_position(&path);
            problems.add(self.located(position, told.problem()));
            let Some(value) = rest.as_mut() else { break };
            if !mend(value, "", &path, nearest(key, told.known())) {
                break;
            }
            let Ok(text) = serde_yaml::to_string(value) else { break };
            match serde_yaml::from_str::<T>(&text) {
                Ok(_) => break,
                Err(next) => error = next,
            }
        }
        problems
    }

    /// A text that is not YAML, or not within the bounds.
    fn syntax_problem(&self, error: &serde_yaml::Error) -> Problem {
        let told = Told::of(error);
        let mut problem = told.problem();
        let message = &mut problem.message;
        if message.contains("more than one document") {
            *message = "holds more than one document; write one file for each".to_owned();
        } else if message.starts_with("expected a value without a tag") {
            *message = "tags (words that start with `!`) are not supported".to_owned();
        } else if message.contains("cannot start any token") && self.text.contains('\t') {
            message.push_str("; YAML is indented with spaces, never with tabs");
        } else if message.contains("did not find expected alphabetic or numeric character") {
            message.push_str("; a word that starts with `*` or `&` needs quotes");
        }
        self.located(told.position, problem)
    }

    fn places(&self) -> Places {
        let mut walk = Walk::new(Positions::Note);
        // The text has been walked before; an error would have ended that walk.
        let _ = walk.run(&self.text);
        walk.places
    }

    /// See [`Document::locate`].
    pub fn locate(&self, problems: Problems) -> Problems {
        let places = self.places();
        let place = |it: Problem| (it.position.or_else(|| places.position(&it.path)), it);
        self.report(problems.into_iter().map(place).collect())
    }

    /// Problems in the order of the file, as many as anyone reads.
    fn report(&self, mut problems: Vec<(Option<Position>, Problem)>) -> Problems {
        // Stable: problems of one place stay in the order they were found.
        problems.sort_by_key(|(position, _)| *position);
        let rest = problems.split_off(problems.len().min(PROBLEMS_MAX));
        let mut report: Problems =
            problems.into_iter().map(|(position, it)| self.located(position, it)).collect();
        if !rest.is_empty() {
            let message = format!("{} more problems are not shown", rest.len());
            report.add(self.located(None, Problem::new("", message)));
        }
        report
    }

    fn located(&self, position: Option<Position>, problem: Problem) -> Problem {
        let excerpt = position
            .and_then(|it| self.text.lines().nth((it.line as usize).saturating_sub(1)))
            .filter(|line| line.chars().count() <= EXCERPT_MAX_CHARS)
            .map(|line| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
            .unwrap_or_default();
        Problem { file: self.file.clone(), position, excerpt, ..problem }
    }
}

/// The first character that no editor shows, or that YAML takes for the end of a
/// line and editors do not: after it, lines could not be told by number.
fn invisible(text: &str) -> Option<(char, Position)> {
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let bad = |c: char| {
            let breaks_or_marks =
                matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
            breaks_or_marks || (c.is_control() && c != '\t')
        };
        if let Some((column, c)) = line.chars().enumerate().find(|(_, c)| bad(*c)) {
            return Some((c, position(index, column)));
        }
    }
    None
}

/// The position of a line and a column that are counted from zero.
fn position(line: usize, column: usize) -> Position {
    let from_one = |index: usize| u32::try_from(index + 1).unwrap_or(u32::MAX);
    Position { line: from_one(line), column: from_one(column) }
}

/// Finds the entry at `path` in `value`, which stands at `here`, and gives it the
/// key that was meant. Without one, or if that key is there too, takes it out.
fn mend(value: &mut Value, here: &str, path: &str, meant: Option<&str>) -> bool {
    match value {
        Value::Mapping(mapping) => {
            let is_target = |key: &Value| key.as_str().is_some_and(|it| join(here, it) == path);
            if let Some(key) = mapping.keys().find(|key| is_target(key)).cloned() {
                let entry = mapping.shift_remove(&key);
                if let (Some(entry), Some(meant)) = (entry, meant) {
                    mapping.entry(meant.into()).or_insert(entry);
                }
                return true;
            }
            mapping.iter_mut().any(|(key, value)| {
                key.as_str().is_some_and(|key| mend(value, &join(here, key), path, meant))
            })
        }
        Value::Sequence(items) => items
            .iter_mut()
            .enumerate()
            .any(|(index, item)| mend(item, &format!("{here}[{index}]"), path, meant)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fleet {
        ships: Vec<Ship>,
        #[serde(default)]
        flags: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ship {
        name: String,
        #[serde(default)]
        masts: u32,
        #[serde(default)]
        kind: Kind,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Brig,
        Sloop,
    }

    #[track_caller]
    fn refused(text: &str, written: &str) {
        let problems = read::<Fleet>("f.yaml", text).unwrap_err().to_string();
        assert_eq!(problems, written, "\n{problems}\n");
    }

    #[test]
    fn a_document_is_read_with_or_without_a_byte_order_mark() {
        for mark in ["", "\u{feff}"] {
            let text = format!("{mark}ships:\n  - {{ name: ann, masts: 2, kind: sloop }}\n");
            let fleet = read::<Fleet>("f.yaml", &text).unwrap().value;
            assert_eq!((fleet.ships[0].name.as_str(), fleet.ships[0].masts), ("ann", 2));
            assert!(matches!(fleet.ships[0].kind, Kind::Sloop) && fleet.flags.is_empty());
        }
    }

    #[test]
    fn every_path_has_the_place_an_editor_would_jump_to() {
        let text = "\
# a fleet
ships:
  - name: ann
    masts: 2
  -   name:
        \"bob\"
  - { name: cid, masts: 3 }
  - &dot { name: dot }
  - *dot
flags: { a.b: \"1\", ü: x, last: [p, q] }
";
        let document = read::<Value>("f.yaml", text).unwrap();
        for (path, line, column) in [
            ("ships", 2, 1),
            ("ships[0]", 3, 5),
            ("ships[0].name", 3, 11),
            ("ships[0].masts", 4, 12),
            ("ships[0].sails", 3, 5),
            ("ships[0].sails[3].colour", 3, 5),
            ("ships[1]", 5, 7),
            ("ships[1].name", 6, 9),
            ("ships[2]", 7, 7),
            ("ships[2].masts", 7, 25),
            ("ships[4].name", 8, 18),
            ("ships[9].name", 2, 1),
            ("flags.a.b", 10, 15),
            ("flags.ü", 10, 23),
            ("flags.last", 10, 26),
            ("flags.last[1]", 10, 36),
        ] {
            let found = document.position(path);
            assert_eq!(found, Some(Position { line, column }), "{path}");
        }
        assert_eq!(document.position("nothing"), None);
    }

    #[test]
    fn unknown_keys_are_all_told_at_once() {
        refused(
            "ship: []\nships:\n  - naem: ann\n  - name: bob\n    colour: red\n",
            "\
f.yaml:1:1: unknown key `ship`; did you mean `ships`?
  1 | ship: []
    | ^
f.yaml:3:5: ships[0]: unknown key `naem`; did you mean `name`?
  3 |   - naem: ann
    |     ^
f.yaml:5:5: ships[1]: unknown key `colour`; known here: name, masts, kind
  5 |     colour: red
    |     ^",
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_told_in_plain_words() {
        refused(
            "ships:\n  - name: ann\n    masts: many\n",
            "\
f.yaml:3:12: ships[0].masts: expected a whole number, found string \"many\"
  3 |     masts: many
    |            ^",
        );
        refused(
            "ships:\n  - name: ann\n    kind: slop\n",
            "\
f.yaml:3:11: ships[0].kind: unknown word `slop`; did you mean `sloop`?
  3 |     kind: slop
    |           ^",
        );
        refused(
            "ships:\n  - masts: 1\n",
            "\
f.yaml:2:5: ships[0]: the key `name` is missing
  2 |   - masts: 1
    |     ^",
        );
        refused(
            "ships: [[ann]]\n",
            "\
f.yaml:1:9: ships[0]: expected a mapping, found a list
  1 | ships: [[ann]]
    |         ^",
        );
        refused(
            "ships: 5\n",
            "\
f.yaml:1:8: ships: expected a list, found integer `5`
  1 | ships: 5
    |        ^",
        );
    }

    #[test]
    fn keys_written_twice_and_merge_keys_are_refused_everywhere() {
        refused(
            "ships: []\nflags: { a: x, b: y, a: z }\nships: []\n",
            "\
f.yaml:2:22: flags: the key `a` is written twice
  2 | flags: { a: x, b: y, a: z }
    |                      ^
f.yaml:3:1: the key `ships` is written twice
  3 | ships: []
    | ^",
        );
        refused(
            "ships:\n  - &a { name: ann }\n  - { <<: *a, masts: 2 }\n",
            "\
f.yaml:3:7: ships[1]: merge keys are not supported; write the keys out
  3 |   - { <<: *a, masts: 2 }
    |       ^",
        );
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        refused(
            "ships:\n\t- name: ann\n",
            "\
f.yaml:2:1: found character that cannot start any token, while scanning for the next token; \
YAML is indented with spaces, never with tabs
  2 |  - name: ann
    | ^",
        );
        refused(
            "ships: [\n",
            "\
f.yaml:2:1: did not find expected node content, while parsing a flow node",
        );
        refused("# nothing yet\n", "f.yaml: is empty");
        refused("", "f.yaml: is empty");
        refused(
            "ships: []\n---\nships: []\n",
            "f.yaml: holds more than one document; write one file for each",
        );
        refused(
            "ships: !fleet [x]\n",
            "\
f.yaml:1:8: ships: tags (words that start with `!`) are not supported
  1 | ships: !fleet [x]
    |        ^",
        );
        refused(
            "? [a]\n: b\n",
            "\
f.yaml:1:3: expected a key of one word, found a list
  1 | ? [a]
    |   ^",
        );
        refused(
            "ships\n",
            "\
f.yaml:1:1: expected a mapping, found string \"ships\"
  1 | ships
    | ^",
        );
        refused(
            "ships: *dot\n",
            "\
f.yaml:1:8: unknown anchor
  1 | ships: *dot
    |        ^",
        );
        for c in ['\u{b}', '\u{7f}', '\u{85}', '\u{2028}', '\u{feff}', '\u{ffff}'] {
            let problems = read::<Fleet>("f.yaml", &format!("# a{c}\n")).unwrap_err().to_string();
            let place = format!("f.yaml:1:4: holds the character U+{:04X}", u32::from(c));
            assert!(problems.starts_with(&place), "{problems}");
        }
        refused(
            "ships: \"\u{0}\"\n",
            "\
f.yaml:1:9: holds the character U+0000, which is invisible or breaks lines; take it out
  1 | ships: \" \"
    |         ^",
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_line() {
        let problems = text("f.yaml", b"a: b\nc: \xff\n").unwrap_err().to_string();
        assert_eq!(problems, "f.yaml:2:4: is not UTF-8 text");
        assert!(text("f.yaml", &vec![b' '; SIZE_MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn a_misspelt_key_is_not_told_as_missing_too() {
        refused(
            "ships:\n  - naem: ann\n    mast: many\n",
            "\
f.yaml:2:5: ships[0]: unknown key `naem`; did you mean `name`?
  2 |   - naem: ann
    |     ^
f.yaml:3:5: ships[0]: unknown key `mast`; did you mean `masts`?
  3 |     mast: many
    |     ^
f.yaml:2:5: ships[0].masts: expected a whole number, found string \"many\"
  2 |   - naem: ann
    |     ^",
        );
    }

    #[test]
    fn no_more_problems_are_shown_than_anyone_reads() {
        let document = read::<Value>("f.yaml", "a: 1\nb: 2\n").unwrap();
        let paths = (0..PROBLEMS_MAX + 7).map(|index| if index % 2 == 0 { "b" } else { "a" });
        let problems = document.locate(paths.map(|path| Problem::new(path, "is odd")).collect());
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        let lines: Vec<u32> =
            problems.iter().filter_map(|it| it.position).map(|it| it.line).collect();
        assert!(lines.is_sorted());
        let last = problems.iter().last().unwrap().to_string();
        assert_eq!(last, "f.yaml: 7 more problems are not shown");
    }

    /// A node of a random document; every key and scalar is a word of its own.
    #[derive(Clone, Debug)]
    enum Tree {
        Scalar,
        Mapping(Vec<Tree>, bool),
        Sequence(Vec<Tree>, bool),
    }

    fn trees() -> impl Strategy<Value = Tree> {
        Just(Tree::Scalar).prop_recursive(4, 24, 4, |inner| {
            let children = || proptest::collection::vec(inner.clone(), 1..4);
            prop_oneof![
                (children(), any::<bool>()).prop_map(|(it, flow)| Tree::Mapping(it, flow)),
                (children(), any::<bool>()).prop_map(|(it, flow)| Tree::Sequence(it, flow)),
            ]
        })
    }

    /// Writes a tree as YAML, and notes the word that must stand at each path.
    struct Writer {
        text: String,
        words: Vec<(String, String)>,
    }

    impl Writer {
        fn word(&mut self, kind: char) -> String {
            format!("{kind}{}", self.words.len())
        }

        fn write(&mut self, tree: &Tree, path: &str, indent: usize, flow: bool) {
            let margin = format!("\n{}", "  ".repeat(indent));
            match tree {
                Tree::Scalar => {
                    let word = self.word('ü');
                    self.text.push_str(&word);
                    self.words.push((path.to_owned(), word));
                }
                Tree::Mapping(children, style) if flow || *style => {
                    self.text.push_str("{ ");
                    for child in children {
                        let path = self.key(path, child);
                        self.write(child, &path, indent, true);
                        self.text.push_str(", ");
                    }
                    self.text.push('}');
                }
                Tree::Sequence(children, style) if flow || *style => {
                    self.text.push('[');
                    for (index, child) in children.iter().enumerate() {
                        self.write(child, &format!("{path}[{index}]"), indent, true);
                        self.text.push_str(", ");
                    }
                    self.text.push(']');
                }
                Tree::Mapping(children, _) => {
                    for child in children {
                        self.text.push_str(&margin);
                        let path = self.key(path, child);
                        self.write(child, &path, indent + 1, false);
                    }
                }
                Tree::Sequence(children, _) => {
                    for (index, child) in children.iter().enumerate() {
                        self.text.push_str(&margin);
                        self.text.push_str("- ");
                        self.write(child, &format!("{path}[{index}]"), indent + 1, false);
                    }
                }
            }
        }

        /// Writes a key; a mapping or sequence stands at its key.
        fn key(&mut self, path: &str, child: &Tree) -> String {
            let key = self.word('k');
            self.text.push_str(&format!("{key}: "));
            let path = join(path, &key);
            if !matches!(child, Tree::Scalar) {
                self.words.push((path.clone(), key));
            } else {
                self.words.push((format!("{path}.missing"), format!("ü{}", self.words.len() + 1)));
            }
            path
        }
    }

    proptest! {
        #[test]
        fn every_position_is_where_the_word_stands(tree in trees()) {
            let mut writer = Writer { text: String::new(), words: Vec::new() };
            writer.write(&tree, "", 0, false);
            let document = read::<Value>("f.yaml", &writer.text).unwrap();
            let lines: Vec<&str> = writer.text.lines().collect();
            for (path, word) in writer.words.iter().filter(|(path, _)| !path.is_empty()) {
                let Position { line, column } = document.position(path).unwrap();
                let rest: String =
                    lines[line as usize - 1].chars().skip(column as usize - 1).collect();
                prop_assert!(
                    rest.starts_with(word.as_str()),
                    "{} is not at {}:{} of\n{}", path, line, column, writer.text
                );
            }
        }

        #[test]
        fn no_text_is_too_odd_to_be_read(text in "[-a: \n#'\"&*!|>{}\\[\\],?%~<0é\t]{0,40}") {
            if let Err(problems) = read::<Fleet>("f.yaml", &text) {
                prop_assert!(!problems.is_empty());
            }
            let _ = read::<Value>("f.yaml", &text);
        }
    }

    #[test]
    fn bombs_are_refused_by_the_bound_that_they_break() {
        let aliases: String = (1..20)
            .map(|level| {
                let previous = level - 1;
                format!("a{level}: &a{level} [{}]\n", vec![format!("*a{previous}"); 10].join(","))
            })
            .collect();
        let fill = |unit: &str| unit.repeat(SIZE_MAX_BYTES / unit.len());
        let (deep, large) = ("nests lists and mappings too deeply", "at most 1048576 are read");
        let bombs = [
            (format!("a0: &a0 [x]\n{aliases}"), "repetition limit exceeded"),
            (fill("["), deep),
            ("[".repeat(40_000), deep),
            (fill("{a: "), deep),
            (fill("[ #]\n"), deep),
            (fill("[']',"), deep),
            (fill("[\"\\\"]\","), deep),
            (fill("[!<]> "), deep),
            (format!("a: |\n '\nb: {}", "{a: ".repeat(200_000)), deep),
            (fill("- "), deep),
            (fill("? "), deep),
            (fill("- - -\n"), "holds more than 200000 values"),
            (fill("!a "), "tags (words that start with `!`) are not supported"),
            (fill("a,"), "expected a mapping"),
            (fill("#"), "is empty"),
            (format!("[{}", fill("a,")), large),
            (
                (0..900).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
                "is nested deeper than 32 levels",
            ),
            (" ".repeat(SIZE_MAX_BYTES + 1), large),
        ];
        for (bomb, bound) in bombs {
            let start = &bomb[..20.min(bomb.len())];
            let problems = read::<Fleet>("f.yaml", &bomb).unwrap_err().to_string();
            assert!(problems.contains(bound), "{start:?} was answered with {problems}");
            assert!(problems.len() < 1_000, "{start:?} was answered with {problems}");
        }
    }
}
