//! A crate's modules and what they import, read from its source.
//!
//! An import counts for the module that *defines* the name: a re-export hides nothing. Tests inside the source are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Item, UseTree};

/// A module's path below the crate, such as `ext4::read`; empty for the crate itself.
pub(super) type Name = String;

/// All modules of a crate.
#[derive(Default)]
pub(super) struct CrateMap {
    modules: BTreeMap<Name, Module>,
}

#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    /// What it defines.
    items: BTreeSet<String>,
    /// Names that `use` brings in, with the paths they stand for.
    imports: Vec<(String, Vec<String>)>,
    /// All paths that its code has, those of `use` included.
    paths: Vec<Vec<String>>,
    is_folder: bool,
}

impl CrateMap {
    /// Reads a crate from the directory of its `lib.rs`.
    pub(super) fn read(src: &Path) -> Self {
        let mut map = Self::default();
        map.add(String::new(), &src.join("lib.rs"), src);
        map
    }

    fn add(&mut self, name: Name, file: &Path, children_in: &Path) {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap();
        let mut module = Module {
            is_folder: file.file_name().unwrap() == "mod.rs",
            ..Module::default()
        };
        for item in &parsed.items {
            if is_test(attributes(item)) {
                continue;
            }
            if let Item::Mod(child) = item
                && child.content.is_none()
            {
                module.children.insert(child.ident.to_string());
                continue;
            }
            if let Some(defined) = defined(item) {
                module.items.insert(defined);
            }
            Reader(&mut module).visit_item(item);
        }
        for child in module.children.clone() {
            let mut file = children_in.join(format!("{child}.rs"));
            if !file.exists() {
                file = children_in.join(&child).join("mod.rs");
            }
            self.add(join(&name, &child), &file, &children_in.join(&child));
        }
        self.modules.insert(name, module);
    }

    /// All modules, and to each those whose names it uses.
    pub(super) fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let arrows = self.modules.iter().map(|(name, module)| {
            let to = module.paths.iter().filter_map(|path| {
                let (definer, _) = self.resolve(name, path, 0)?;
                // A folder's re-exports of what is below it are no use of it.
                let is_own = module.is_folder && is_within(definer, name);
                (definer != name && !is_own).then_some(definer)
            });
            (name.as_str(), to.collect())
        });
        arrows.collect()
    }

    /// The modules whose code names something of another crate by this path.
    pub(super) fn users_of(&self, path: &[&str]) -> BTreeSet<&str> {
        let users = self.modules.iter().filter(|(_, module)| {
            let mut paths = module.paths.iter();
            paths.any(|used| used.len() >= path.len() && used.iter().zip(path).all(|(a, b)| a == b))
        });
        users.map(|(name, _)| name.as_str()).collect()
    }

    /// Modules whose file is a folder's `mod.rs`, with the names of what they define.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        let folders = self.modules.iter().filter(|(_, module)| module.is_folder);
        folders.map(|(name, module)| (name.as_str(), &module.items))
    }

    /// The module that defines what a path names, seen from `from`, and whether it is an item of it; `None` for other crates.
    fn resolve(&self, from: &str, path: &[String], depth: usize) -> Option<(&str, bool)> {
        let (mut at, mut rest) = self.start(from, path)?;
        loop {
            let (name, module) = self.modules.get_key_value(at.as_str())?;
            let Some((first, others)) = rest.split_first() else {
                return Some((name, false));
            };
            let is_child = module.children.contains(first);
            if is_child && !others.is_empty() {
                at = join(&at, first);
                rest = others;
                continue;
            }
            if module.items.contains(first) {
                return Some((name, true));
            }
            let imported = module.imports.iter().filter(|(local, _)| local == first);
            for (_, path) in imported {
                if depth < 16
                    && let Some((definer, is_item)) = self.resolve(&at, path, depth + 1)
                {
                    if is_item || others.is_empty() {
                        return Some((definer, is_item));
                    }
                    return self.resolve(definer, &with_self(others), depth + 1);
                }
            }
            if !is_child {
                return None;
            }
            at = join(&at, first);
            rest = others;
        }
    }

    /// Where the walk along a path begins, and what of it is left.
    fn start<'p>(&self, from: &str, path: &'p [String]) -> Option<(Name, &'p [String])> {
        let first = path.first()?.as_str();
        match first {
            "crate" => Some((String::new(), &path[1..])),
            "self" => Some((from.to_owned(), &path[1..])),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let above = |at: &'_ str| at.rsplit_once("::").map_or(0, |(above, _)| above.len());
                let mut at = from;
                for _ in 0..ups {
                    at = &at[..above(at)];
                }
                Some((at.to_owned(), &path[ups..]))
            }
            // A child, or a module that was imported; all else is another crate or a local name.
            _ => {
                let module = &self.modules[from];
                let is_ours =
                    |path: &[String]| matches!(path[0].as_str(), "crate" | "super" | "self");
                let is_known = module.children.contains(first)
                    || module
                        .imports
                        .iter()
                        .any(|(local, path)| local == first && is_ours(path));
                (path.len() > 1 && is_known).then(|| (from.to_owned(), path))
            }
        }
    }
}

/// Collects what a module's code names.
struct Reader<'m>(&'m mut Module);

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let mut found = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut found);
        for (local, path) in found {
            self.0.paths.push(path.clone());
            self.0.imports.push((local, path));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string());
        self.0.paths.push(parts.collect());
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        // The arguments are no syntax tree. Paths in them are identifiers with colons in between.
        let text = mac.tokens.to_string().replace(" :: ", "::");
        let is_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
        for path in text.split(|letter| !is_of_path(letter)) {
            if path.contains("::") {
                self.0
                    .paths
                    .push(path.split("::").map(str::to_owned).collect());
            }
        }
    }
}

fn flatten(tree: &UseTree, above: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            flatten(&path.tree, above, found);
            above.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, above, found);
            }
        }
        UseTree::Name(name) if name.ident == "self" => {
            found.push((above.last().unwrap().clone(), above.clone()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            found.push((name.clone(), with(above, name)));
        }
        UseTree::Rename(rename) => {
            found.push((
                rename.rename.to_string(),
                with(above, rename.ident.to_string()),
            ));
        }
        UseTree::Glob(_) => found.push(("*".to_owned(), above.clone())),
    }
}

fn with(above: &[String], name: String) -> Vec<String> {
    above.iter().cloned().chain([name]).collect()
}

fn with_self(rest: &[String]) -> Vec<String> {
    let own = "self".to_owned();
    [own].into_iter().chain(rest.iter().cloned()).collect()
}

fn join(above: &str, name: &str) -> Name {
    if above.is_empty() {
        return name.to_owned();
    }
    format!("{above}::{name}")
}

/// Whether a module is another, or below it.
pub(super) fn is_within(name: &str, above: &str) -> bool {
    above.is_empty()
        || name
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|what| what == "test")
    })
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
