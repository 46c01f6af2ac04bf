//! Libraries and their Functions: loading them, replacing them, finding them.
//!
//! A load changes everything or nothing. Names of Functions are unique among all
//! libraries whatever their case; names of libraries are told apart by case.

use std::sync::Arc;

use super::context::{Loading, Origin, Registration};
use super::engine::{Engine, LoadFault};
use super::error::LoadError;
use super::metadata::{self, Metadata};
use super::raw::Anchor;

/// A loaded library.
#[derive(Clone, Debug)]
pub struct Library {
    /// Its name; case matters.
    pub name: String,
    /// The whole text as loaded, first line included.
    pub code: Arc<str>,
    /// What it registered, in that order.
    pub functions: Vec<Function>,
}

/// A Function of a loaded library.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name; unique among all libraries, whatever the case.
    pub name: Box<str>,
    /// What it says of itself; empty if nothing.
    pub description: Box<str>,
    /// What it declared.
    pub flags: Flags,
    pub(super) callback: Anchor,
}

/// What a Function or a script declared of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Names as Redis lists them; the bits are those of `sandbox.lua`.
    const NAMES: [(&'static str, u32); 5] = [
        ("no-writes", 1),
        ("allow-oom", 2),
        ("allow-stale", 4),
        ("no-cluster", 8),
        ("allow-cross-slot-keys", 16),
    ];

    /// True when commands that write may not be called.
    pub fn no_writes(self) -> bool {
        self.0 & 1 != 0
    }

    /// True when memory may be used beyond `maxmemory`.
    pub fn allow_oom(self) -> bool {
        self.0 & 2 != 0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(_, bit)| self.0 & bit != 0).map(|(name, _)| name)
    }

    /// Both sets together.
    pub(super) fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flag of this name.
    pub(super) fn named(name: &[u8]) -> Option<Flags> {
        Flags::NAMES.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, bit)| Flags(*bit))
    }
}

/// What becomes of libraries that are there when others come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They stay, and their names are taken.
    Append,
    /// Those of the same name go.
    Replace,
    /// All of them go.
    Flush,
}

/// Where a name leads: which library, which of its Functions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    library_index: usize,
    function_index: usize,
}

impl Engine {
    /// Loads a library from its text and returns its name. With `replace` it may
    /// take the place of one of the same name; when it fails, that one stays.
    ///
    /// # Errors
    /// [`LoadError`], in Redis' words.
    pub fn load(&mut self, code: &str, replace: bool) -> Result<String, LoadError> {
        let rule = if replace { Rule::Replace } else { Rule::Append };
        let names = self.install(&[code], rule)?;
        Ok(names.into_iter().next().unwrap_or_default())
    }

    /// Loads several libraries, all of them or none, and returns their names.
    ///
    /// # Errors
    /// The first [`LoadError`] among them.
    pub fn install(
        &mut self,
        codes: &[impl AsRef<str>],
        rule: Rule,
    ) -> Result<Vec<String>, LoadError> {
        let mut staged = Vec::new();
        for code in codes {
            match self.stage(code.as_ref(), &staged, rule) {
                Ok(library) => staged.push(library),
                Err(error) => {
                    staged.iter().for_each(|it| self.release_all(&it.functions));
                    return Err(error);
                }
            }
        }
        let names = staged.iter().map(|it| it.name.clone()).collect();
        if rule == Rule::Flush {
            self.flush();
        }
        for library in staged {
            match self.libraries.iter().position(|it| it.name == library.name) {
                Some(place) => {
                    let old = std::mem::replace(&mut self.libraries[place], library);
                    self.release_all(&old.functions);
                }
                None => self.libraries.push(library),
            }
        }
        self.rebuild_index();
        Ok(names)
    }

    /// Runs a library's top level and holds it against those that are to stay and
    /// those that come with it.
    fn stage(&mut self, code: &str, staged: &[Library], rule: Rule) -> Result<Library, LoadError> {
        let Metadata { library: name, body } = metadata::parse(code)?;
        let is_named = |it: &&Library| it.name == name;
        let is_taken = rule == Rule::Append && self.libraries.iter().any(|it| is_named(&it));
        if is_taken || staged.iter().any(|it| is_named(&it)) {
            return Err(LoadError::LibraryExists(name));
        }
        let functions = self.register(body)?;
        let stays = |it: &&Library| {
            rule != Rule::Flush && it.name != name && staged.iter().all(|new| new.name != it.name)
        };
        let others = self.libraries.iter().filter(stays).chain(staged);
        let mut taken = others.flat_map(|it| &it.functions);
        let clash = taken.find(|it| functions.iter().any(|new| same_name(&new.name, &it.name)));
        if let Some(clash) = clash {
            let name = clash.name.to_string();
            self.release_all(&functions);
            return Err(LoadError::FunctionExists(name));
        }
        Ok(Library { name, code: Arc::from(code), functions })
    }

    /// Removes a library and its Functions; false when there is none of this name.
    pub fn delete(&mut self, library: &str) -> bool {
        let Some(place) = self.libraries.iter().position(|it| it.name == library) else {
            return false;
        };
        let old = self.libraries.remove(place);
        self.release_all(&old.functions);
        self.rebuild_index();
        true
    }

    /// Removes every library.
    pub fn flush(&mut self) {
        for library in std::mem::take(&mut self.libraries) {
            self.release_all(&library.functions);
        }
        self.rebuild_index();
    }

    /// True when a Function of this name can be called.
    pub fn has(&self, function: &str) -> bool {
        self.find(function).is_some()
    }

    /// The full names of all Functions, such as `limiter.decide`, sorted.
    pub fn functions(&self) -> Vec<String> {
        let full_names = |library: &Library| {
            let prefix = library.name.clone();
            library.functions.iter().map(move |it| format!("{prefix}.{}", it.name)).collect()
        };
        let mut names: Vec<String> =
            self.libraries.iter().flat_map(|it| -> Vec<String> { full_names(it) }).collect();
        names.sort_unstable();
        names
    }

    /// The loaded libraries, in the order of their first loading.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Library> {
        self.libraries.iter()
    }

    pub(super) fn find(&self, name: &str) -> Option<Target> {
        if let Some(target) = self.index.get(name) {
            return Some(*target);
        }
        self.index.iter().find(|(known, _)| same_name(known, name)).map(|(_, target)| *target)
    }

    pub(super) fn function(&self, target: Target) -> &Function {
        &self.libraries[target.library_index].functions[target.function_index]
    }

    /// Runs the top level of a library. What it registered is the caller's.
    fn register(&mut self, body: &str) -> Result<Vec<Function>, LoadError> {
        match self.load_text(Origin::Library, body.as_bytes()) {
            Ok(Loading { registrations, .. }) if registrations.is_empty() => Err(LoadError::Empty),
            Ok(loading) => Ok(loading.registrations.into_iter().map(Into::into).collect()),
            Err(LoadFault::Compile(text)) => Err(LoadError::Compile(text)),
            Err(LoadFault::Run(text)) => Err(LoadError::Register(text)),
        }
    }

    fn rebuild_index(&mut self) {
        self.index.clear();
        for (library_index, library) in self.libraries.iter().enumerate() {
            for (function_index, function) in library.functions.iter().enumerate() {
                let target = Target { library_index, function_index };
                self.index.insert(function.name.clone(), target);
                let full_name = format!("{}.{}", library.name, function.name);
                self.index.insert(full_name.into(), target);
            }
        }
    }

    fn release_all(&self, functions: &[Function]) {
        for function in functions {
            self.release(function.callback);
        }
    }
}

impl From<Registration> for Function {
    fn from(it: Registration) -> Function {
        Function {
            name: it.name,
            description: it.description,
            flags: Flags(it.flag_bits),
            callback: it.callback,
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
