//! The `openapi` step: `docs/openapi.json` is valid OpenAPI 3.1, and follows the rules that tools recommend.

use anyhow::Result;

use super::count::Count;
use crate::packages::{NodePackages, openapi_tests};
use crate::shell::{output, run as show, say};

const DOCUMENT: &str = "docs/openapi.json";

/// The official schema, Spectral and Redocly. A warning fails as an error does.
pub fn run(count: &mut Count) {
    let packages = match NodePackages::ensure() {
        Ok(packages) => packages,
        Err(error) => return count.check(Err(error.context("the tools are not installed"))),
    };
    count.check(schema(&packages));
    count.check(spectral(&packages));
    count.check(redocly(&packages));
}

fn schema(packages: &NodePackages) -> Result<()> {
    say("the official schema of OpenAPI 3.1");
    output(packages.script("schema.mjs")?.arg(DOCUMENT)).map(drop)
}

fn spectral(packages: &NodePackages) -> Result<()> {
    say("spectral");
    let mut spectral = packages.program("spectral");
    spectral.args(["lint", "--fail-severity", "hint", "--ruleset"]);
    spectral.arg(openapi_tests().join("spectral.yaml")).arg(DOCUMENT);
    show(&mut spectral)
}

fn redocly(packages: &NodePackages) -> Result<()> {
    say("redocly");
    let mut redocly = packages.program("redocly");
    redocly.args(["lint", "--format", "stylish", "--config"]);
    redocly.arg(openapi_tests().join("redocly.yaml")).arg(DOCUMENT);
    redocly.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    show(&mut redocly)
}
