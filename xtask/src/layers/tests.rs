//! Small crates in a folder of their own.

use tempfile::TempDir;

use super::*;

/// A crate with these files below `src/`.
fn crate_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    folder
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join("src").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn layers(files: &[(&str, &str)]) -> Layers {
    Layers::of(crate_of(files).path()).unwrap()
}

/// The imports of the only circle.
fn circle(files: &[(&str, &str)]) -> Vec<String> {
    let mut layers = layers(files);
    assert_eq!(layers.circles.len(), 1, "{}", layers.report());
    let imports = layers.circles.remove(0).imports;
    // Without the name of the temporary folder.
    imports.iter().map(|import| import.replace(&prefix(import), "")).collect()
}

fn prefix(import: &str) -> String {
    let (folder, _) = import.split_once("src/").unwrap();
    folder.to_owned()
}

fn assert_layered(files: &[(&str, &str)]) {
    let layers = layers(files);
    assert!(layers.circles.is_empty(), "{}", layers.report());
}

#[test]
fn modules_below_each_other_are_layers() {
    let files = [
        ("lib.rs", "mod high;\nmod low;\npub use high::run;"),
        ("high.rs", "use crate::low::{self, Depth};\npub fn run() { low::go(Depth); }"),
        ("low.rs", "pub struct Depth;\npub fn go(_: Depth) {}"),
    ];
    assert_layered(&files);
    assert_eq!((layers(&files).files, layers(&files).imports), (3, 2));
}

#[test]
fn two_modules_that_import_each_other_are_a_circle() {
    let imports = circle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use super::b::B;\npub struct A(B);"),
        ("b.rs", "\npub struct B(Box<crate::a::A>);"),
    ]);
    let expected = [
        "src/a.rs:1 imports src/b.rs (super::b::B), which imports it too",
        "src/b.rs:2 imports src/a.rs (crate::a::A), which imports it too",
    ];
    assert_eq!(imports, expected);
}

#[test]
fn a_declaration_alone_is_no_import() {
    assert_layered(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child;\npub struct A;"),
        ("a/child.rs", "use super::A;"),
    ]);
    circle(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child;\npub struct A;\nfn f() { child::g() }"),
        ("a/child.rs", "use super::*;\npub fn g() {}"),
    ]);
}

#[test]
fn who_uses_a_re_export_depends_on_the_module_that_re_exports() {
    let defining = ("a/defined.rs", "pub struct Thing;");
    assert_layered(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "mod defined;\npub(crate) use self::defined::Thing;"),
        defining,
        ("b.rs", "use crate::a::Thing;"),
    ]);
    // `defined` is below `a`, so it must not import what `a` re-exports.
    circle(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod defined;\nmod other;\npub(crate) use self::defined::Thing;\nuse other::O;"),
        defining,
        ("a/other.rs", "use super::Thing;\npub struct O;"),
    ]);
}

#[test]
fn an_imported_module_is_followed_into_its_children() {
    let imports = circle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "pub mod deep;"),
        ("a/deep.rs", "use crate::b::B;\npub fn f() {}"),
        ("b.rs", "use crate::a;\npub struct B;\nfn g() { a::deep::f() }"),
    ]);
    let expected = "src/b.rs:3 imports src/a/deep.rs (a::deep::f), which imports it too";
    assert_eq!(imports[1], expected);
}

#[test]
fn what_only_tests_import_is_left_out() {
    assert_layered(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use crate::b::B;\npub struct A;"),
        (
            "b.rs",
            "pub struct B;\n#[cfg(test)]\nmod tests;\n#[cfg(all(test, unix))]\nuse crate::a::A;\n
            impl B { #[cfg(test)] fn a() -> crate::a::A { crate::a::A } }",
        ),
    ]);
    circle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use crate::b::B;\npub struct A;"),
        ("b.rs", "pub struct B;\n#[cfg(not(test))]\nuse crate::a::A;"),
    ]);
}

#[test]
fn macros_name_paths_and_visibilities_do_not() {
    circle(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "pub fn f() { println!(\"{}\", crate::b::N + 1) }"),
        ("b.rs", "pub const N: u8 = 0;\nfn g() { crate::a::f() }"),
    ]);
    assert_layered(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod b;\npub use b::N;"),
        ("a/b.rs", "pub(in crate::a) const N: u8 = 0;\npub(super) const M: u8 = 0;"),
    ]);
}

#[test]
fn an_inline_module_belongs_to_its_file() {
    assert_layered(&[("lib.rs", "mod a { pub fn f() { super::g() } }\nfn g() { a::f() }")]);
    circle(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod inner { pub mod b; pub fn f() { b::g() } }\npub fn h() { inner::f() }"),
        ("a/inner/b.rs", "pub fn g() { super::super::h() }"),
    ]);
}

#[test]
fn other_crates_are_no_modules() {
    assert_layered(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "use redis;\nuse ::b::X;\nuse crate::b::Y;\nfn f() { redis::cmd() }"),
        ("b.rs", "use std::fmt;\npub struct Y;"),
    ]);
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let reads = |name: &str, files: &[(&str, &str)]| {
        let folder = folder.path().join(name);
        write(&folder, files);
        Layers::of(&folder).unwrap().environment
    };
    let imported = ("a.rs", "use std::{env, fmt};\nfn f() { env::var(\"A\"); }");
    let named = ("b.rs", "#[cfg(test)]\nuse std::env;\n\nfn f() { g(std::env::var_os(\"B\")) }");
    let files = [("lib.rs", "mod a;\nmod b;"), imported, named];
    assert_eq!(reads("sale", &files), ["sale/src/a.rs:1", "sale/src/b.rs:4"]);
    assert!(reads("other", &files).is_empty());
    let config = ("config/arguments.rs", "fn f() { std::env::args_os(); }");
    let files = [("lib.rs", "mod config;"), ("config.rs", "mod arguments;"), config];
    assert!(reads("app", &files).is_empty());
    assert_eq!(reads("ledger", &files), ["ledger/src/config/arguments.rs:1"]);
}
