//! The `fuzz` step: schemathesis makes requests from the API's own OpenAPI document, good and bad
//! ones, as a buyer and as an administrator. No answer may be a 5xx, or one the document does not
//! have.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::background::Background;
use crate::sale::Sale;
use crate::shell::{command, nice, say};
use crate::tools;

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";
/// Cases for each call and role, of the random part.
const CASES: &str = "40";
/// Of each role. The two run at the same time, beside other tests or alone.
const SECONDS: &str = "90";

/// Fuzzes with each role.
pub fn run(check: &mut dyn FnMut(Result<()>)) {
    let prepared =
        tools::ensure_schemathesis().and_then(|program| Ok((program, Sale::start(&products())?)));
    match prepared {
        Ok((program, sale)) => thread::scope(|scope| {
            let start = |role| {
                let (program, sale) = (&program, &sale);
                let work = move || fuzz(sale, program, role);
                (role, Background::start(scope, work))
            };
            // Both begin before the first is waited for.
            for (role, fuzzing) in ["buyer", "admin"].map(start) {
                let result = fuzzing.and_then(Background::join).and_then(|result| result);
                check(result.with_context(|| format!("fuzzing as {role}")));
            }
        }),
        Err(error) => check(Err(error.context("the fuzzing did not start"))),
    }
}

fn fuzz(sale: &Sale, program: &Path, role: &str) -> Result<()> {
    say(&format!("schemathesis, as {role}"));
    let token = sale.token(role)?;
    let mut fuzz = command(program);
    fuzz.args(["run", &format!("{}/openapi.json", sale.url())])
        .args(["--checks", CHECKS, "--max-examples", CASES, "--max-time", SECONDS])
        .args(["--phases", "examples,coverage,fuzzing", "--generation-deterministic"])
        // These answers have no end.
        .args(["--exclude-path-regex", "/events$"])
        .args(["--continue-on-failure", "--no-color"])
        .args(["--warnings", "off", "--request-timeout", "30"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .current_dir(sale.folder());
    let status = nice(&fuzz).status().context("cannot start schemathesis")?;
    // Not the whole line: it has the token.
    anyhow::ensure!(status.success(), "schemathesis found something: {status}");
    Ok(())
}

fn products() -> Value {
    json!([
        {"id": "1", "name": "Console", "stock": 1_000_000},
        {"id": "2", "name": "Limited", "stock": 100, "max_per_buyer": 1},
    ])
}
