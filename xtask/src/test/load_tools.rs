//! The `load-tools` step: the examples for Locust, `JMeter` and k6 sell out a real sale. The database has as many units
//! sold as each tool counted. Where no sale is, each tool ends by itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::free_port;

use super::count::Count;
use crate::packages::{ensure_java, ensure_python, maven, versioned};
use crate::sale::Sale;
use crate::shell::{command, output, repository, run as show, say};
use crate::tools::ensure_k6;

const STOCK: u64 = 100;
const USERS: &str = "300";
/// Far more than a tool needs.
const SECONDS: &str = "300";

/// A load tool: its name, what it counted of its product, and how it ends where no sale is.
type Tool = (&'static str, fn(&Sale, &str) -> Result<u64>, fn(&Sale) -> Result<()>);

const TOOLS: [Tool; 3] = [
    ("locust", locust, locust_without_a_sale),
    ("jmeter", jmeter, jmeter_without_a_sale),
    ("k6", k6, k6_without_a_sale),
];

/// Each tool has a product of its own.
pub fn run(count: &mut Count) {
    let product = |(tool, ..): Tool| json!({"id": tool, "name": "Console", "stock": STOCK});
    let sale = match Sale::start(&Value::from_iter(TOOLS.map(product))) {
        Ok(sale) => sale,
        Err(error) => return count.check(Err(error.context("the sale did not start"))),
    };
    for (tool, drive, without_a_sale) in TOOLS {
        say(&format!("{tool}: {USERS} users on {STOCK} items"));
        let judged = drive(&sale, tool).and_then(|counted| {
            let sold = sale.sold(tool)?;
            ensure!(counted == sold, "it counted {counted} units, the database sold {sold}");
            ensure!(sold == STOCK, "{sold} of {STOCK} units are sold");
            Ok(())
        });
        count.check(judged.with_context(|| tool.to_owned()));
        count.check(without_a_sale(&sale).with_context(|| format!("{tool} without a sale")));
    }
}

fn locust(sale: &Sale, product: &str) -> Result<u64> {
    let said = output(locust_at(&sale.url(), sale)?.env("PRODUCT", product))?;
    counted(&said, "sold")
}

/// Buyers whom nobody answers give up, and so does a run without the key of the sale.
fn locust_without_a_sale(sale: &Sale) -> Result<()> {
    let mut locust = locust_at(&nobody()?, sale)?;
    let ended =
        locust.env("PATIENCE", "1").stdout(Stdio::piped()).stderr(Stdio::null()).output()?;
    ensure!(ended.status.code() == Some(1), "it ended with {}", ended.status);
    let gave_up = counted(&String::from_utf8(ended.stdout)?, "no answer")?;
    ensure!(gave_up == USERS.parse::<u64>()?, "{gave_up} of {USERS} buyers gave up");
    let without_a_key = locust.env_remove("JWT_SECRET").stdout(Stdio::null()).status()?;
    ensure!(without_a_key.code() == Some(1), "without a key it ended with {without_a_key}");
    Ok(())
}

/// A number on the last line of what Locust printed.
fn counted(said: &str, what: &str) -> Result<u64> {
    let answers = said.lines().next_back().unwrap_or_default();
    let answers: Value = serde_json::from_str(answers).with_context(|| said.to_owned())?;
    answers[what].as_u64().with_context(|| format!("no `{what}` in {answers}"))
}

fn locust_at(url: &str, sale: &Sale) -> Result<Command> {
    let python = ensure_python("locust", &tests().join("requirements.txt"))?;
    let mut locust = limited(python);
    locust
        .args([
            "-m",
            "locust",
            "--headless",
            "--only-summary",
            "--users",
            USERS,
            "--spawn-rate",
            USERS,
        ])
        .arg("--locustfile")
        .arg(repository().join("examples/load-tools/locust/locustfile.py"))
        .env("SALE_URL", url)
        .env("JWT_SECRET", sale.jwt_secret())
        .current_dir(sale.folder());
    Ok(locust)
}

fn jmeter(sale: &Sale, product: &str) -> Result<u64> {
    let results = sale.folder().join("jmeter.csv");
    output(jmeter_at(&sale.url(), sale, &results)?.arg(format!("-Jproduct={product}")))?;
    sold(&results)
}

/// As with Locust.
fn jmeter_without_a_sale(sale: &Sale) -> Result<()> {
    let results = sale.folder().join("jmeter-without-a-sale.csv");
    output(jmeter_at(&nobody()?, sale, &results)?.arg("-Jpatience=1"))?;
    let sold = sold(&results)?;
    ensure!(sold == 0, "{sold} units are sold by nobody");
    Ok(())
}

/// The samples that are a sold unit, as the README counts them.
fn sold(results: &Path) -> Result<u64> {
    let results = std::fs::read_to_string(results)?;
    let mut lines = results.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default();
    let code = head.iter().position(|name| *name == "responseCode").context("no responseCode")?;
    ensure!(code == 3, "the README counts another column than {head:?} has");
    Ok(lines.filter(|line| line.get(code) == Some(&"201")).count() as u64)
}

fn jmeter_at(url: &str, sale: &Sale, results: &Path) -> Result<Command> {
    let Some((host, port)) = url.strip_prefix("http://").and_then(|url| url.split_once(':')) else {
        bail!("no host and port in {url}");
    };
    let mut java = limited("java");
    java.arg("-jar").arg(ensure_jmeter()?.join("bin/ApacheJMeter.jar"));
    java.args(["-n", "-t"]).arg(repository().join("examples/load-tools/jmeter/purchases.jmx"));
    java.arg("-l").arg(results);
    java.args([format!("-Jhost={host}"), format!("-Jport={port}"), format!("-Jusers={USERS}")]);
    java.env("JWT_SECRET", sale.jwt_secret()).current_dir(sale.folder());
    Ok(java)
}

fn k6(sale: &Sale, product: &str) -> Result<u64> {
    let summary = sale.folder().join("k6.json");
    output(k6_at(&sale.url(), sale, &summary)?.env("PRODUCT", product))?;
    summed_up(&summary, "sold")
}

/// As with Locust, and the thresholds make the exit status.
fn k6_without_a_sale(sale: &Sale) -> Result<()> {
    const CROSSED_THRESHOLDS: i32 = 99;
    const SCRIPT_EXCEPTION: i32 = 107;
    let summary = sale.folder().join("k6-without-a-sale.json");
    let mut k6 = k6_at(&nobody()?, sale, &summary)?;
    k6.env("PATIENCE", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ended = k6.status()?;
    ensure!(ended.code() == Some(CROSSED_THRESHOLDS), "it ended with {ended}");
    let [gave_up, came] = ["no_answer", "iterations"].map(|what| summed_up(&summary, what));
    let (gave_up, came) = (gave_up?, came?);
    ensure!(gave_up > 0 && gave_up == came, "{gave_up} of {came} buyers gave up");
    let without_a_key = k6.env_remove("JWT_SECRET").status()?;
    ensure!(
        without_a_key.code() == Some(SCRIPT_EXCEPTION),
        "without a key it ended with {without_a_key}"
    );
    Ok(())
}

/// A count in the summary that k6 wrote.
fn summed_up(summary: &Path, what: &str) -> Result<u64> {
    let summary: Value = serde_json::from_str(&std::fs::read_to_string(summary)?)?;
    let counter = &summary["metrics"][what];
    counter["count"].as_u64().with_context(|| format!("no count of `{what}`: {counter}"))
}

/// As many buyers as the others have, in three seconds.
fn k6_at(url: &str, sale: &Sale, summary: &Path) -> Result<Command> {
    ensure_k6()?;
    let mut k6 = limited("k6");
    // Reports nothing to its makers, and needs no port of its own.
    k6.args(["run", "--quiet", "--no-usage-report", "--address="])
        .arg("--summary-export")
        .arg(summary)
        .arg(repository().join("examples/load-tools/k6/purchases.js"))
        .envs([("RATE", "100"), ("DURATION", "3"), ("SALE_URL", url)])
        .env("JWT_SECRET", sale.jwt_secret())
        .current_dir(sale.folder());
    Ok(k6)
}

/// Where nobody listens.
fn nobody() -> Result<String> {
    Ok(format!("http://127.0.0.1:{}", free_port()?))
}

/// A program that is ended if it takes too long.
fn limited(program: impl AsRef<OsStr>) -> Command {
    let mut limited = command("timeout");
    limited.args(["--kill-after=10", SECONDS]).arg(program);
    limited
}

/// The folder of `JMeter`, with its files where its distribution has them.
fn ensure_jmeter() -> Result<PathBuf> {
    ensure_java()?;
    let project = tests().join("jmeter/pom.xml");
    let folder = versioned("jmeter", &project)?;
    let installed = folder.join("installed");
    if installed.exists() {
        return Ok(folder);
    }
    say("fetching JMeter with Maven (about half a minute, once)");
    let (bin, lib) = (folder.join("bin"), folder.join("lib"));
    std::fs::create_dir_all(&bin)?;
    let mut maven = maven("copy-dependencies")?;
    output(maven.arg("--file").arg(project).arg(format!("-DoutputDirectory={}", lib.display())))?;
    let extensions = lib.join("ext");
    for folder in [&extensions, &lib.join("junit")] {
        std::fs::create_dir_all(folder)?;
    }
    for entry in std::fs::read_dir(&lib)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        match name.to_string_lossy().split_once('-').map(|(name, _)| name) {
            Some("ApacheJMeter") => std::fs::rename(path, bin.join("ApacheJMeter.jar"))?,
            Some("ApacheJMeter_config") => unpack(&path, &folder)?,
            Some(of) if of.starts_with("ApacheJMeter_") => {
                std::fs::rename(path, extensions.join(name))?;
            }
            _ => {}
        }
    }
    std::fs::write(installed, "")?;
    Ok(folder)
}

/// Unpacks a jar's folder `bin`.
fn unpack(jar: &Path, into: &Path) -> Result<()> {
    let program = "import sys, zipfile; jar = zipfile.ZipFile(sys.argv[1]); \
                   jar.extractall(sys.argv[2], [n for n in jar.namelist() if n.startswith('bin/')])";
    show(command("python3").args(["-c", program]).arg(jar).arg(into))
}

fn tests() -> PathBuf {
    repository().join("tests/load-tools")
}
