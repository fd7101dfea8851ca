//! The `clients` step: clients in Python, TypeScript and Go are generated from `docs/openapi.json`. They compile, and
//! buy from a real sale; the database has the units that they say.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::count::Count;
use crate::binaries::target_folder;
use crate::packages::{self, NodePackages};
use crate::sale::Sale;
use crate::shell::{command, output, repository, say};

const PRODUCT: &str = "1";
/// Of each client, one unit each.
const PURCHASES: u64 = 20;

/// A language: its name, and how its client is made.
type Language = (&'static str, fn(&Path) -> Result<Command>);

const LANGUAGES: [Language; 3] = [("python", python), ("typescript", typescript), ("go", go)];

/// Each client buys; then the database is asked.
pub fn run(count: &mut Count) {
    let products = json!([{"id": PRODUCT, "name": "Console", "stock": 1000}]);
    let started = copied().and_then(|folder| Ok((folder, Sale::start(&products)?)));
    let (folder, sale) = match started {
        Ok(started) => started,
        Err(error) => return count.check(Err(error.context("the sale did not start"))),
    };
    let mut bought = 0;
    for (language, make) in LANGUAGES {
        say(&format!("the client in {language}"));
        let units = make(&folder.join(language)).and_then(|client| buy(client, &sale));
        bought += units.as_ref().copied().unwrap_or_default();
        let as_told = units.and_then(|units| {
            ensure!(units == PURCHASES, "bought {units} units instead of {PURCHASES}");
            Ok(())
        });
        count.check(as_told.with_context(|| format!("the client in {language}")));
    }
    count.check(sale.sold(PRODUCT).and_then(|sold| {
        ensure!(sold == bought, "the database sold {sold} units, and the clients bought {bought}");
        Ok(())
    }));
}

/// The programs that use the clients, in a folder where the clients are generated beside them.
fn copied() -> Result<PathBuf> {
    let folder = target_folder().join("clients");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let programs = repository().join("examples/clients");
    output(command("cp").arg("--recursive").arg(programs).arg(&folder))?;
    Ok(folder)
}

/// The units that a client says it bought.
fn buy(mut client: Command, sale: &Sale) -> Result<u64> {
    client
        .env("SALE_URL", sale.url())
        .env("PRODUCT", PRODUCT)
        .env("PURCHASES", PURCHASES.to_string());
    let said = output(&mut client)?;
    said.trim().parse().with_context(|| format!("the client printed {said:?}"))
}

fn python(folder: &Path) -> Result<Command> {
    generate("python", &folder.join("generated"), "packageName=flashsale")?;
    let python = packages::ensure_python("client", &folder.join("requirements.txt"))?;
    let mut client = command(python);
    client.arg("buy.py").env("PYTHONPATH", "generated").current_dir(folder);
    Ok(client)
}

fn typescript(folder: &Path) -> Result<Command> {
    // Node.js wants the names of files in imports.
    generate("typescript-fetch", &folder.join("flashsale"), "importFileExtension=.js")?;
    let node = NodePackages::ensure()?;
    output(node.program("tsc").current_dir(folder))?;
    let mut client = node.node();
    client.arg("built/buy.js").current_dir(folder);
    Ok(client)
}

fn go(folder: &Path) -> Result<Command> {
    let generated = folder.join("sale");
    std::fs::create_dir(&generated)?;
    let go = || {
        let mut go = command("go");
        go.current_dir(folder);
        go
    };
    let arguments = ["tool", "oapi-codegen", "-generate", "types,client", "-package", "sale", "-o"];
    output(go().args(arguments).arg(generated.join("sale.gen.go")).arg(document()))?;
    output(go().args(["vet", "./..."]))?;
    output(go().args(["build", "-o", "buy", "."]))?;
    Ok(command(folder.join("buy")))
}

/// Makes a client with openapi-generator.
fn generate(generator: &str, into: &Path, properties: &str) -> Result<()> {
    let mut java = packages::ensure_generator()?;
    java.args(["generate", "--generator-name", generator, "--input-spec"])
        .arg(document())
        .arg("--output")
        .arg(into)
        .args(["--additional-properties", properties])
        .args([
            "--global-property",
            "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false",
        ]);
    output(&mut java).map(drop)
}

fn document() -> PathBuf {
    repository().join("docs/openapi.json")
}
