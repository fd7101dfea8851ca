//! The modules of a crate as their files declare them, and the paths that each module names. Code
//! behind `#[cfg(test)]` is left out. This module resolves nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility};

/// Index into [`Tree::modules`].
pub type ModuleId = usize;
/// Index into [`Tree::files`].
pub type FileId = usize;

/// A path in the source, for example `crate::sale::rules`.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its segments. A glob ends with the segment before the `*`.
    pub segments: Vec<String>,
    /// The line of its first segment, from 1.
    pub line: usize,
}

/// One name that a `use` brings into scope.
#[derive(Debug)]
pub struct Import {
    /// What it names.
    pub reference: Reference,
    /// The name in scope; `None` for a glob.
    pub alias: Option<String>,
}

/// A module: a file, or an inline `mod` in one.
#[derive(Debug)]
pub struct Module {
    /// The file that holds its items.
    pub file: FileId,
    /// `None` for the root of the crate.
    pub parent: Option<ModuleId>,
    /// Modules declared in it, by name.
    pub children: BTreeMap<String, ModuleId>,
    /// Its `use` items, including those inside functions.
    pub imports: Vec<Import>,
    /// All other paths of two or more segments.
    pub paths: Vec<Reference>,
}

/// All modules of one target. The module 0 is its root.
#[derive(Debug, Default)]
pub struct Tree {
    /// Every module.
    pub modules: Vec<Module>,
    /// Every file.
    pub files: Vec<PathBuf>,
}

/// A file still to be read.
struct Pending {
    path: PathBuf,
    /// Where the files of its child modules are.
    folder: PathBuf,
    parent: Option<(ModuleId, String)>,
}

impl Tree {
    /// Reads a target's root file and every file that it declares.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let folder = root.parent().context("a root file without a folder")?.to_owned();
        let mut pending = vec![Pending { path: root.to_owned(), folder, parent: None }];
        while let Some(file) = pending.pop() {
            let text = std::fs::read_to_string(&file.path)
                .with_context(|| format!("cannot read {}", file.path.display()))?;
            let parsed = syn::parse_file(&text).map_err(|error| {
                let line = error.span().start().line;
                anyhow::anyhow!("{}:{line}: {error}", file.path.display())
            })?;
            if only_tests(&parsed.attrs) {
                continue;
            }
            tree.files.push(file.path.clone());
            let module = tree.add(tree.files.len() - 1, file.parent);
            let mut reader =
                Reader { tree: &mut tree, module, folder: file.folder, declared: Vec::new() };
            reader.visit_file(&parsed);
            for declared in reader.declared {
                pending.push(declared.locate(&file.path)?);
            }
        }
        Ok(tree)
    }

    fn add(&mut self, file: FileId, parent: Option<(ModuleId, String)>) -> ModuleId {
        let id = self.modules.len();
        let (parent, name) = parent.unzip();
        self.modules.push(Module {
            file,
            parent,
            children: BTreeMap::new(),
            imports: Vec::new(),
            paths: Vec::new(),
        });
        if let (Some(parent), Some(name)) = (parent, name) {
            self.modules[parent].children.insert(name, id);
        }
        id
    }
}

/// A `mod name;`.
struct Declared {
    parent: ModuleId,
    name: String,
    folder: PathBuf,
    /// The value of `#[path = "..."]`.
    path: Option<String>,
}

impl Declared {
    fn locate(self, declaring: &Path) -> Result<Pending> {
        let parent = Some((self.parent, self.name.clone()));
        if let Some(path) = self.path {
            let path = declaring.parent().unwrap_or(declaring).join(path);
            let folder = path.parent().unwrap_or(&path).to_owned();
            return Ok(Pending { path, folder, parent });
        }
        let folder = self.folder.join(&self.name);
        let candidates = [folder.with_extension("rs"), folder.join("mod.rs")];
        match candidates.into_iter().find(|path| path.exists()) {
            Some(path) => Ok(Pending { path, folder, parent }),
            None => bail!("{}: no file for `mod {};`", declaring.display(), self.name),
        }
    }
}

/// Collects what one file names.
struct Reader<'tree> {
    tree: &'tree mut Tree,
    /// The module that the visited items belong to.
    module: ModuleId,
    /// Where the files of its child modules are.
    folder: PathBuf,
    declared: Vec<Declared>,
}

impl Reader<'_> {
    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let (last, alias, span) = match tree {
            UseTree::Path(path) => {
                return self.import(&path.tree, &joined(prefix, &path.ident));
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.import(item, prefix));
            }
            UseTree::Name(name) => (Some(&name.ident), Some(&name.ident), name.ident.span()),
            UseTree::Rename(rename) => {
                (Some(&rename.ident), Some(&rename.rename), rename.ident.span())
            }
            UseTree::Glob(glob) => (None, None, glob.star_token.span),
        };
        // `a::{self}` names `a`.
        let last = last.filter(|&ident| prefix.is_empty() || ident != "self");
        let segments = last.map_or_else(|| prefix.to_vec(), |ident| joined(prefix, ident));
        let alias = alias.and_then(|ident| {
            if ident == "self" { segments.last().cloned() } else { Some(name_of(ident)) }
        });
        let line = span.start().line;
        let import = Import { reference: Reference { segments, line }, alias };
        self.tree.modules[self.module].imports.push(import);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !only_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[Attribute] = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !only_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !only_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !only_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = name_of(&item.ident);
        if let Some((_, items)) = &item.content {
            let file = self.tree.modules[self.module].file;
            let inner = self.tree.add(file, Some((self.module, name.clone())));
            let folder = self.folder.join(name);
            let outer = std::mem::replace(&mut self.module, inner);
            let outer_folder = std::mem::replace(&mut self.folder, folder);
            for item in items {
                self.visit_item(item);
            }
            self.module = outer;
            self.folder = outer_folder;
        } else {
            let path = item.attrs.iter().find_map(path_attribute);
            let (parent, folder) = (self.module, self.folder.clone());
            self.declared.push(Declared { parent, name, folder, path });
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| name_of(&segment.ident)).collect();
            let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
            self.tree.modules[self.module].paths.push(Reference { segments, line });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invoked: &'ast Macro) {
        visit::visit_macro(self, invoked);
        paths_in(invoked.tokens.clone(), &mut self.tree.modules[self.module].paths);
    }

    /// `pub(in path)` limits who may import; it imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// The paths among the tokens of a macro.
fn paths_in(tokens: TokenStream, found: &mut Vec<Reference>) {
    let mut path = Reference { segments: Vec::new(), line: 0 };
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    keep(&mut path, found);
                }
                if path.segments.is_empty() {
                    path.line = ident.span().start().line;
                }
                path.segments.push(name_of(&ident));
            }
            TokenTree::Group(group) => {
                keep(&mut path, found);
                paths_in(group.stream(), found);
            }
            _other => keep(&mut path, found),
        }
        colons = 0;
    }
    keep(&mut path, found);
}

fn keep(path: &mut Reference, found: &mut Vec<Reference>) {
    let segments = std::mem::take(&mut path.segments);
    if segments.len() > 1 {
        found.push(Reference { segments, line: path.line });
    }
}

fn joined(prefix: &[String], ident: &syn::Ident) -> Vec<String> {
    prefix.iter().cloned().chain([name_of(ident)]).collect()
}

/// `r#mod` is `mod`.
fn name_of(ident: &syn::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(value) = &pair.value else { return None };
    match &value.lit {
        syn::Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
        _ => None,
    }
}

/// Whether the item exists in test builds only: `#[cfg(test)]`, `#[cfg(all(test, ...))]`.
fn only_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition))
        }
        _ => false,
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => {
            let all = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
            list.parse_args_with(all).is_ok_and(|conditions| conditions.iter().any(needs_test))
        }
        _ => false,
    }
}

fn attributes(item: &syn::Item) -> &[Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
