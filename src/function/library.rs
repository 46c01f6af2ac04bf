//! Libraries and their Functions: loading them, replacing them, finding them.
//!
//! A load changes everything or nothing. Names of Functions are unique among all
//! libraries whatever their case; names of libraries are told apart by case.
//!
//! A library comes from a file or from a client. Clients see both, and may remove or
//! replace both, as in Redis. But a limit that stands in a policy must not go because
//! a client sent `FUNCTION FLUSH`: a library of a file is only taken out of what
//! clients see then, and policies go on with it. When its file changes, and at the
//! next start, clients see it again. One whose file has gone is a client's from the
//! next start on, because the log holds it.
//!
//! ```text
//!                     policies call      clients see and call
//! of a file           always             until a client removes or replaces it
//! of a client         if no file has     until a client removes or replaces it
//!                     the name
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::context::{Loading, Origin, Registration};
use super::engine::Engine;
use super::error::LoadError;
use super::metadata::{self, Metadata};
use super::metrics::Meter;
use super::raw::Anchor;
use super::vm::{LoadFault, Vm};

/// A loaded library.
#[derive(Debug)]
pub struct Library {
    /// Its name; case matters.
    pub name: String,
    /// The whole text as loaded, first line included.
    pub code: Arc<str>,
    /// What it registered, in that order.
    pub functions: Vec<Function>,
    pub(super) vm: Vm,
    source: Source,
    /// Clients see it.
    is_listed: bool,
}

/// Where a library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    File,
    Client,
}

/// A Function of a loaded library.
#[derive(Debug)]
pub struct Function {
    /// Its name; unique among all libraries, whatever the case.
    pub name: Box<str>,
    /// What it says of itself; empty if nothing.
    pub description: Box<str>,
    /// What it declared.
    pub flags: Flags,
    pub(super) callback: Anchor,
    pub(super) meter: Option<Meter>,
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
    pub(super) library_index: usize,
    pub(super) function_index: usize,
}

/// Functions by their names, bare and with their library's.
#[derive(Debug, Default)]
pub(super) struct Names {
    policies: Index,
    clients: Index,
}

type Index = HashMap<Box<str>, Target>;

impl Names {
    /// What a policy calls by this name.
    pub(super) fn for_policies(&self, name: &str) -> Option<Target> {
        find(&self.policies, name)
    }

    /// What a client calls by this name.
    pub(super) fn for_clients(&self, name: &str) -> Option<Target> {
        find(&self.clients, name)
    }
}

fn find(index: &Index, name: &str) -> Option<Target> {
    if let Some(target) = index.get(name) {
        return Some(*target);
    }
    index.iter().find(|(known, _)| same_name(known, name)).map(|(_, target)| *target)
}

impl Engine {
    /// Loads a client's library from its text and returns its name. With `replace` it
    /// may take the place of one of the same name; when it fails, that one stays.
    ///
    /// # Errors
    /// [`LoadError`], in Redis' words.
    pub fn load(&mut self, code: &str, replace: bool) -> Result<String, LoadError> {
        let rule = if replace { Rule::Replace } else { Rule::Append };
        let names = self.install(&[code], rule)?;
        Ok(names.into_iter().next().unwrap_or_default())
    }

    /// Loads the library of a file. With `replace` it takes the place of whatever
    /// has the same name; when it fails, all that is there stays.
    ///
    /// # Errors
    /// [`LoadError`], in Redis' words.
    pub fn load_file(&mut self, code: &str, replace: bool) -> Result<String, LoadError> {
        let rule = if replace { Rule::Replace } else { Rule::Append };
        let library = self.stage(code, &[], rule, Source::File)?;
        let name = library.name.clone();
        self.show_metrics();
        let place = self.libraries.iter().position(|it| it.name == name);
        self.libraries.retain(|it| it.name != name);
        self.libraries.insert(place.unwrap_or(self.libraries.len()), library);
        self.name_all();
        Ok(name)
    }

    /// Loads several libraries of a client, all of them or none, and returns their
    /// names.
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
            staged.push(self.stage(code.as_ref(), &staged, rule, Source::Client)?);
        }
        let names = staged.iter().map(|it| it.name.clone()).collect();
        self.show_metrics();
        if rule == Rule::Flush {
            self.withdraw(|_| true);
        }
        for library in staged {
            let listed = |it: &Library| it.is_listed && it.name == library.name;
            let place = self.libraries.iter().position(listed);
            self.withdraw(listed);
            self.libraries.insert(place.unwrap_or(self.libraries.len()), library);
        }
        self.name_all();
        Ok(names)
    }

    /// Loads a library beside those that are in force, in a state of its own, and
    /// checks that it may come to them. `staged` come with it.
    fn stage(
        &mut self,
        code: &str,
        staged: &[Library],
        rule: Rule,
        source: Source,
    ) -> Result<Library, LoadError> {
        let Metadata { library: name, body } = metadata::parse(code)?;
        let is_seen = |it: &&Library| it.is_listed || source == Source::File;
        let is_taken = match rule {
            Rule::Append => self.libraries.iter().filter(is_seen).any(|it| it.name == name),
            Rule::Replace | Rule::Flush => false,
        };
        if is_taken || staged.iter().any(|it| it.name == name) {
            return Err(LoadError::LibraryExists(name));
        }
        let (vm, functions) = self.register(body)?;
        let stays = |it: &&Library| {
            rule != Rule::Flush && it.name != name && staged.iter().all(|new| new.name != it.name)
        };
        let others = self.libraries.iter().filter(is_seen).filter(stays).chain(staged);
        let mut taken = others.flat_map(|it| &it.functions);
        if let Some(clash) =
            taken.find(|it| functions.iter().any(|new| same_name(&new.name, &it.name)))
        {
            return Err(LoadError::FunctionExists(clash.name.to_string()));
        }
        Ok(Library { name, code: Arc::from(code), functions, vm, source, is_listed: true })
    }

    /// Removes a library from what clients see; false when they see none of this
    /// name.
    pub fn delete(&mut self, library: &str) -> bool {
        let is_there = self.withdraw(|it| it.is_listed && it.name == library);
        self.name_all();
        is_there
    }

    /// Removes every library from what clients see.
    pub fn flush(&mut self) {
        self.withdraw(|_| true);
        self.name_all();
    }

    /// Takes libraries away from clients; says if there were any.
    fn withdraw(&mut self, is_meant: impl Fn(&Library) -> bool) -> bool {
        let mut found = false;
        self.libraries.retain_mut(|it| {
            if !is_meant(it) {
                return true;
            }
            found = true;
            if it.source == Source::File && it.is_listed {
                let library = &it.name;
                tracing::warn!(
                    library,
                    "a client removed or replaced the library of a file; policies keep the file's"
                );
            }
            it.is_listed = false;
            it.source == Source::File
        });
        found
    }

    /// True when a policy can call a Function of this name.
    pub fn has(&self, function: &str) -> bool {
        self.names.for_policies(function).is_some()
    }

    /// The full names of all Functions that policies can call, such as
    /// `limiter.decide`, sorted.
    pub fn functions(&self) -> Vec<String> {
        let full_names = |library: &Library| library.full_names().collect::<Vec<_>>();
        let names: BTreeSet<String> = self.libraries.iter().flat_map(full_names).collect();
        names.into_iter().filter(|it| self.has(it)).collect()
    }

    /// The libraries that clients see, in the order of their first loading.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.libraries.iter().filter(|it| it.is_listed)
    }

    pub(super) fn function(&self, target: Target) -> &Function {
        &self.libraries[target.library_index].functions[target.function_index]
    }

    /// Runs the top level of a library in a state of its own.
    fn register(&mut self, body: &str) -> Result<(Vm, Vec<Function>), LoadError> {
        let new = Vm::new(self.limits.memory_bytes_max, self.watchdog.interrupter());
        let mut vm = new.map_err(|error| LoadError::Register(format!("ERR {error}")))?;
        let time_max = self.limits.load_time_max;
        match vm.load_text(Origin::Library, body.as_bytes(), time_max, &self.watchdog) {
            Ok(Loading { registrations, .. }) if registrations.is_empty() => Err(LoadError::Empty),
            Ok(loading) => Ok((vm, loading.registrations.into_iter().map(Into::into).collect())),
            Err(LoadFault::Compile(text)) => Err(LoadError::Compile(text)),
            Err(LoadFault::Run(text)) => Err(LoadError::Register(text)),
        }
    }

    /// Makes every Function known by its names, and countable under its full one.
    pub(super) fn name_all(&mut self) {
        self.names = Names::default();
        let mut full_names = BTreeSet::new();
        for (library_index, library) in self.libraries.iter_mut().enumerate() {
            let (is_listed, is_of_file) = (library.is_listed, library.source == Source::File);
            for (function_index, function) in library.functions.iter_mut().enumerate() {
                let target = Target { library_index, function_index };
                let full_name = format!("{}.{}", library.name, function.name);
                if let (Some(metrics), None) = (&mut self.metrics, &function.meter) {
                    function.meter = Some(metrics.function(&full_name));
                }
                for name in [&*function.name, &full_name] {
                    if is_listed {
                        self.names.clients.insert(name.into(), target);
                    }
                    if is_of_file {
                        self.names.policies.insert(name.into(), target);
                    } else {
                        self.names.policies.entry(name.into()).or_insert(target);
                    }
                }
                full_names.insert(full_name);
            }
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.forget_others(&full_names);
        }
    }
}

impl Library {
    fn full_names(&self) -> impl Iterator<Item = String> {
        self.functions.iter().map(|it| format!("{}.{}", self.name, it.name))
    }
}

impl From<Registration> for Function {
    fn from(it: Registration) -> Function {
        Function {
            name: it.name,
            description: it.description,
            flags: Flags(it.flag_bits),
            callback: it.callback,
            meter: None,
        }
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
