//! `cargo xtask plugin`: `kubectl flashsale` as one static binary, in an archive for krew.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use crate::binaries::{Build, target_folder};
use crate::shell::{cargo, command, output, print, repository, run, say};

/// The plugin, as its package is called too.
pub const PROGRAM: &str = "kubectl-flashsale";
/// Of the test's build: its dependencies are compiled in little time, because it runs only twice.
const QUICK: &str = r#"profile.dev.package."*".opt-level=0"#;

/// Packs a release, and prints the archive's checksum.
pub fn release() -> Result<ExitCode> {
    let archive = pack(Build::Release)?;
    print(output(command("sha256sum").arg(archive))?.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Builds the plugin and packs it with the licence, if it is static; gives the archive.
pub fn pack(build: Build) -> Result<PathBuf> {
    let program = build_static(build)?;
    ensure_static(&program)?;
    let archive = program.with_file_name(archive()?);
    let mut tar = command("tar");
    tar.args(["--owner=0", "--group=0", "-czf"]).arg(&archive);
    tar.arg("-C").arg(program.with_file_name("")).arg(PROGRAM);
    run(tar.arg("-C").arg(repository()).arg("LICENSE"))?;
    Ok(archive)
}

/// The plugin with the C library in it. With a target, procedural macros and build scripts stay dynamic.
fn build_static(build: Build) -> Result<PathBuf> {
    say(&format!("building {PROGRAM}, static"));
    let target = format!("{ARCH}-unknown-linux-gnu");
    let mut cargo = cargo("build");
    cargo.args(["--package", PROGRAM, "--target", &target]);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    match build {
        Build::Release => cargo.arg("--release"),
        Build::Test => cargo.args(["--config", QUICK]),
    };
    run(&mut cargo)?;
    Ok(target_folder().join(target).join(build.folder()).join(PROGRAM))
}

/// Refuses a program that needs a loader or libraries of the machine.
fn ensure_static(program: &Path) -> Result<()> {
    let mut readelf = command("readelf");
    let parts = output(readelf.args(["--wide", "--program-headers", "--dynamic"]).arg(program))?;
    let needs = |line: &&str| line.starts_with("INTERP") || line.contains("(NEEDED)");
    let needed: Vec<&str> = parts.lines().map(str::trim).filter(needs).collect();
    ensure!(needed.is_empty(), "{} is not static: {}", program.display(), needed.join("; "));
    Ok(())
}

/// The archive for this machine, as krew's manifest names it.
fn archive() -> Result<String> {
    let machine = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("krew's manifest has no archive for {other}"),
    };
    Ok(format!("{PROGRAM}-v{}-linux-{machine}.tar.gz", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_refused() {
        let error = ensure_static(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(error.contains("INTERP") && error.contains("libc.so.6"), "{error}");
    }

    #[test]
    fn the_archive_is_the_one_that_krew_fetches() {
        let manifest = include_str!("../../plugin/krew.yaml");
        let uri = format!("uri: RELEASE_URL/{}\n", archive().unwrap());
        assert!(manifest.contains(&uri), "{uri}");
    }
}
