//! `cargo xtask dashboards`: the pictures of the dashboards in `docs/`, drawn from the data of a sale under load as Prometheus
//! 3 returned them.

use std::process::ExitCode;

use anyhow::Result;

use crate::binaries::Build;
use crate::shell::{binaries_folder, cargo, command, repository, run};
use crate::tools;

/// `cargo xtask dashboards`.
pub fn draw() -> Result<ExitCode> {
    tools::ensure_packages(tools::PROCESSES)?;
    tools::ensure_kubernetes()?;
    tools::ensure_helm()?;
    tools::ensure_prometheus()?;
    let python = tools::ensure_matplotlib()?;
    Build::Test.run()?;
    let data = tempfile::tempdir()?;
    run(cargo("test")
        .args(["--workspace", "--quiet", "--test", "panels"])
        .env("FLASHSALE_CLUSTER_BIN", binaries_folder())
        .env("FLASHSALE_DASHBOARD_DATA", data.path()))?;
    run(command(python)
        .arg(repository().join("tests/monitoring/draw.py"))
        .args([data.path(), &repository().join("docs")]))?;
    Ok(ExitCode::SUCCESS)
}
