//! Programs of another Debian suite, unpacked into a folder of their own. They run on this machine's kernel with the
//! libraries of their suite: scripts with the programs' names start them through that suite's loader.

use std::fmt::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{command, output, run, say, state_folder};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Packages that the programs start with: themselves and libraries. The others configure a machine.
const NEEDED: [&str; 7] =
    ["lib", "zlib", "postgresql-", "redis-", "valkey-", "prometheus", "promtool"];
/// Just-in-time compilation is half of PostgreSQL's size and serves long analytic queries; scripts are those of
/// Prometheus's pages.
const LEFT_OUT: [&str; 4] = ["libllvm", "libperl", "postgresql-common", "libjs-"];

/// A Debian package of one suite.
#[derive(Debug)]
pub struct Source {
    /// The suite; others complete it (`experimental` is no whole suite).
    pub suites: &'static [&'static str],
    /// The package of the program.
    pub package: &'static str,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of Debian {}", self.package, self.suites[0])
    }
}

/// Unpacks the package and what it needs, unless this version is there already; gives the folder.
pub fn install(source: &Source) -> Result<PathBuf> {
    let apt = Apt::of(source)?;
    let packages = apt.packages(source)?;
    let version = packages.iter().find(|(name, _)| name == source.package);
    let (_, version) = version.with_context(|| format!("{source} is not in that suite"))?;
    let root = folder().join(format!("{}-{}", source.package, version.replace([':', '~'], "_")));
    if root.join("complete").exists() {
        return Ok(root);
    }
    say(&format!("unpacking {} {version} of Debian {}", source.package, source.suites[0]));
    let archives = root.join("archives");
    std::fs::create_dir_all(&archives)?;
    let names = packages.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = names.filter(|name| is_needed(name)).collect();
    run(apt.get().arg("download").args(names).current_dir(&archives).stdout(std::io::stderr()))?;
    for archive in std::fs::read_dir(&archives)? {
        run(command("dpkg-deb").arg("-x").arg(archive?.path()).arg(&root))?;
    }
    std::fs::remove_dir_all(&archives)?;
    std::fs::remove_dir_all(root.join("usr/share/doc")).or_else(ignore_absence)?;
    wrap(&root)?;
    std::fs::write(root.join("complete"), "")?;
    Ok(root)
}

fn folder() -> PathBuf {
    state_folder().join("matrix")
}

fn is_needed(package: &str) -> bool {
    let begins = |names: &[&str]| names.iter().any(|name| package.starts_with(name));
    begins(&NEEDED) && !begins(&LEFT_OUT)
}

fn ignore_absence(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// apt with lists of its own and no installed package.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn of(source: &Source) -> Result<Self> {
        let folder = folder().join("apt").join(source.suites[0]);
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let mut sources = String::new();
        let mirror = mirror()?;
        for suite in source.suites {
            writeln!(sources, "deb [signed-by={KEYS}] {mirror} {suite} main")?;
        }
        std::fs::write(folder.join("sources.list"), sources)?;
        std::fs::write(folder.join("status"), "")?;
        let at = folder.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\nDir::State::lists \"{at}/lists\";\n\
             Dir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
             APT::Install-Recommends \"false\";\nAcquire::Languages \"none\";\n\
             APT::Default-Release \"{}\";\n",
            source.suites[0]
        );
        let configuration = folder.join("apt.conf");
        std::fs::write(&configuration, settings)?;
        let apt = Self { configuration };
        run(apt.get().arg("update").stdout(std::process::Stdio::null()))?;
        Ok(apt)
    }

    fn get(&self) -> Command {
        let mut apt = command("apt-get");
        // The sandbox of apt is a user that cannot enter root's folders.
        apt.env("APT_CONFIG", &self.configuration).args(["-q", "-o", "APT::Sandbox::User=root"]);
        apt
    }

    /// Names and versions of the package and of all that it needs.
    fn packages(&self, source: &Source) -> Result<Vec<(String, String)>> {
        let plan = output(self.get().args(["-s", "install", source.package]))?;
        Ok(plan.lines().filter_map(planned).collect())
    }
}

/// A line such as `Inst libc6 (2.41-12 Debian:13/stable [amd64])`.
fn planned(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
}

/// The mirror of this machine's own Debian.
fn mirror() -> Result<String> {
    let listed = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let listed = output(command("apt-get").args(listed))?;
    let is_debian = |uri: &&str| uri.trim_end_matches('/').ends_with("/debian");
    let Some(mirror) = listed.lines().map(str::trim).find(is_debian) else {
        bail!("apt-get has no Debian mirror; run apt-get update");
    };
    Ok(mirror.to_owned())
}

/// Puts a script in the place of each program; `redis-server` and `redis-cli` are Valkey's as well, as in its image.
fn wrap(root: &Path) -> Result<()> {
    let libraries = libraries(root)?;
    let loader = libraries.iter().find_map(|folder| loader(folder)).context("no loader")?;
    let path = std::env::join_paths(&libraries)?.into_string().ok().context("a path is no text")?;
    let mut wrapped = 0;
    for program in programs(root)? {
        let real = program.with_extension("real");
        // Debian's `redis-server` is a link to `redis-check-rdb`.
        std::fs::copy(&program, &real)?;
        std::fs::remove_file(&program)?;
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let folder = program.parent().context("a program without a folder")?;
        for name in [name.to_owned(), name.replace("valkey-", "redis-")] {
            let script = folder.join(name);
            // PostgreSQL finds its files by its own name.
            let text = format!(
                "#!/bin/sh\nexec {} --argv0 {} --library-path {path} {} \"$@\"\n",
                loader.display(),
                script.display(),
                real.display()
            );
            std::fs::write(&script, text)?;
            std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
        }
        wrapped += 1;
    }
    ensure!(wrapped > 0, "{} has none of the programs", root.display());
    Ok(())
}

/// The servers, their clients and tools below `root`.
fn programs(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in
        ["redis-server", "redis-cli", "valkey-server", "valkey-cli", "prometheus", "promtool"]
    {
        found.push(root.join("usr/bin").join(name));
    }
    for version in entries(&root.join("usr/lib/postgresql"))? {
        found.extend(entries(&version.join("bin"))?);
        std::fs::remove_file(version.join("lib/llvmjit.so")).or_else(ignore_absence)?;
    }
    found.retain(|program| program.exists());
    Ok(found)
}

/// The folders of the suite's libraries. In older suites, the C library is outside of `usr`.
fn libraries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = [entries(&root.join("usr/lib"))?, entries(&root.join("lib"))?].concat();
    found.retain(|folder| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.contains("-linux-gnu"))
    });
    Ok(found)
}

fn loader(folder: &Path) -> Option<PathBuf> {
    let found = entries(folder).ok()?;
    found.into_iter().find(|file| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("ld-linux") && name.contains(".so."))
    })
}

/// Paths in a folder; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(found) => {
            let mut found: Vec<PathBuf> =
                found.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>()?;
            found.sort();
            Ok(found)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_apt_s_plan() {
        let line = "Inst libc6 (2.41-12+deb13u5 Debian:13.8/stable [amd64])";
        assert_eq!(planned(line), Some(("libc6".to_owned(), "2.41-12+deb13u5".to_owned())));
        assert_eq!(planned("Conf libc6 (2.41-12 Debian:13.8/stable [amd64])"), None);
    }

    #[test]
    fn leaves_out_what_configures_a_machine() {
        for package in
            ["libc6", "zlib1g", "redis-tools", "valkey-server", "postgresql-client-18", "promtool"]
        {
            assert!(is_needed(package), "{package}");
        }
        for package in
            ["adduser", "libllvm19", "libperl5.40", "postgresql-common", "systemd", "libjs-moment"]
        {
            assert!(!is_needed(package), "{package}");
        }
    }
}
