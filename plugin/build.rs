//! Adds `src/static_names.c` to a binary that has glibc linked into it.

use std::env;

fn main() {
    const SOURCE: &str = "src/static_names.c";
    println!("cargo::rerun-if-changed={SOURCE}");
    let has = |variable: &str, value: &str| {
        env::var(variable).is_ok_and(|values| values.split(',').any(|it| it == value))
    };
    if has("CARGO_CFG_TARGET_OS", "linux")
        && has("CARGO_CFG_TARGET_ENV", "gnu")
        && has("CARGO_CFG_TARGET_FEATURE", "crt-static")
    {
        // Objects, because the linker takes from an archive only what something refers to.
        for object in cc::Build::new().file(SOURCE).compile_intermediates() {
            println!("cargo::rustc-link-arg-bins={}", object.display());
        }
    }
}
