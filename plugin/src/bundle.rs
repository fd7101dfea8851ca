//! `support-bundle`: what a maintainer asks for, in one file, without secrets.

mod archive;
mod collected;
mod objects;
mod redact;
mod running;
mod secrets;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use kube::api::ApiResource;
use serde_json::{Value, json};

use self::archive::Archive;
use self::collected::{Collected, Entry, pretty};
use self::objects::Objects;
use self::redact::Redactor;
use crate::cluster::{Cluster, Explained as _};
use crate::partial::to_file;
use crate::{sales, terminal};

/// The flags of `support-bundle`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It contains the FlashSale, the objects of its parts with their states, events, the logs of all containers (present and
previous), the operator's logs, versions, and the metrics of each replica. Of Secrets it has names and keys, no values.
Values of Secrets are also searched for in everything else and removed, and so is what looks like a password, a token or
a private key. Logs and orders can name buyers: look through the file before you give it away.

Examples:
  kubectl flashsale support-bundle -n shop black-friday
  kubectl flashsale support-bundle -n shop black-friday -o /tmp/bundle.tar.gz --log-lines 2000")]
pub struct Options {
    /// The sale
    name: String,
    /// File to write (default: flashsale-support-NAME-TIME.tar.gz in this folder)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Lines at the end of each log
    #[arg(long, default_value_t = 20_000)]
    log_lines: u32,
    /// Where the operator runs (default: all namespaces are searched)
    #[arg(long, value_name = "NAMESPACE")]
    operator_namespace: Option<String>,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    // The error about a missing sale, also where it cannot be read.
    if let Err(error) = sales::find(cluster, &options.name).await
        && objects::raw_sale(cluster, &options.name).await.is_none()
    {
        return Err(error);
    }
    let now = Timestamp::now();
    let mut collected = Collected::default();
    let operator = options.operator_namespace.as_deref();
    let mut found = Objects::read(cluster, &options.name, operator, &mut collected.missing).await;
    let mut redactor = Redactor::default();
    secrets::read(cluster, &mut found, &mut redactor, &mut collected.missing).await;
    for object in found.all() {
        redactor.variables(object);
    }
    running::logs(cluster, &found, options.log_lines, &mut collected).await;
    running::metrics(cluster, &found, &mut collected).await;
    found.write(&redactor, &mut collected)?;
    let versions = versions(cluster, &mut collected.missing).await;
    collected.add("versions.json", pretty(&versions)?);

    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let default = || PathBuf::from(format!("flashsale-support-{}-{stamp}.tar.gz", options.name));
    let path = options.output.clone().unwrap_or_else(default);
    let number = collected.entries.len();
    write(&path, &options.name, collected, &redactor, now)
        .await
        .with_context(|| format!("cannot write {}", path.display()))?;
    terminal::note(format_args!(
        "{number} files without secrets. Logs can name buyers: look through them before you give them away"
    ));
    terminal::result(path.display())?;
    Ok(ExitCode::SUCCESS)
}

async fn write(
    path: &Path,
    sale: &str,
    collected: Collected,
    redactor: &Redactor,
    now: Timestamp,
) -> Result<()> {
    to_file(path, async |out| fill(out, sale, collected, redactor, now)).await
}

fn fill(
    out: impl io::Write,
    sale: &str,
    mut collected: Collected,
    redactor: &Redactor,
    now: Timestamp,
) -> Result<()> {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let mut archive = Archive::new(out, &format!("flashsale-support-{sale}"), seconds);
    for missing in &collected.missing {
        terminal::note(format_args!("missing: {}", redactor.text(missing)));
    }
    let mut about = format!("Support bundle of the sale {sale}, {now}.\n");
    about.push_str(
        "Values of Secrets, passwords, tokens and private keys were replaced by <redacted ...>.\n",
    );
    if !redactor.too_short.is_empty() {
        let names = redactor.too_short.join(", ");
        let _ = writeln!(about, "Too short to be searched for in texts: {names}.");
    }
    about.push_str("\nNot in this bundle:\n");
    let none = ["nothing is missing".to_owned()];
    let missing = if collected.missing.is_empty() { &none[..] } else { &collected.missing };
    for missing in missing {
        let _ = writeln!(about, "  {missing}");
    }
    collected.add("README.txt", about);
    collected.entries.sort_by(|a, b| a.path.cmp(&b.path));
    for Entry { path, content } in collected.entries {
        // Everything is searched once more, whatever it is.
        archive.add(&path, &redactor.text(&content))?;
    }
    archive.finish()?;
    Ok(())
}

/// Versions of the plugin, the API server, the nodes and the definition. One that cannot be read is null, and its error is
/// added to `missing`.
async fn versions(cluster: &Cluster, missing: &mut Vec<String>) -> Value {
    let nodes = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
    let server = cluster.client.apiserver_version().await.explained(cluster);
    let nodes = objects::list(cluster, &nodes, None, "").await;
    let definition = objects::definition(cluster).await;
    let mut kept = |what: &str, found: Result<Value>| {
        found.unwrap_or_else(|error| {
            missing.push(format!("{what}: {error:#}"));
            Value::Null
        })
    };
    let node = |node: &Value| json!({ "name": node["metadata"]["name"], "info": node["status"]["nodeInfo"] });
    json!({
        "plugin": env!("CARGO_PKG_VERSION"),
        "server": kept("version of the API server", server.and_then(|info| Ok(serde_json::to_value(info)?))),
        "nodes": kept("versions of the nodes", nodes.map(|all| all.iter().map(node).collect())),
        "definition": kept("versions of the resource definition", definition),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bundle_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.tar.gz");
        let mut collected = Collected::default();
        // No tar file has such a name. The entries before it are written.
        collected.add("z".repeat(200), "last".to_owned());
        let redactor = Redactor::default();
        let now = Timestamp::UNIX_EPOCH;
        let error = write(&path, "black-friday", collected, &redactor, now).await.unwrap_err();
        assert!(error.to_string().contains("too long for a tar file"), "{error:#}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
