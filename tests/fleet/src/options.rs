//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures the operator with a fleet of sales: requests of idle sales, latency of a change, memory.
#[derive(Parser)]
#[command(name = "cargo xtask bench operator", bin_name = "cargo xtask bench operator")]
pub struct Options {
    /// Number of sales.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub sales: u32,
    /// How long the idle fleet is observed, in seconds.
    #[arg(long, default_value_t = 300)]
    pub idle: u64,
    /// Number of changes of a sale.
    #[arg(long, default_value_t = 500)]
    pub changes: u32,
    /// CloudNativePG's manager, measured beside the sales; `cargo xtask` builds it.
    #[arg(long, env = "CNPG_MANAGER", hide = true)]
    pub cnpg: Option<PathBuf>,
    /// Number of its Clusters. Without kubelets they are never ready, and its manager keeps the API server busy.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub clusters: u32,
    /// The folder of its resource definitions.
    #[arg(long, env = "CNPG_CRDS", hide = true, requires = "cnpg")]
    pub cnpg_crds: Option<PathBuf>,
    /// Writes the table into docs/PERFORMANCE.md.
    #[arg(long)]
    pub write_docs: bool,
    /// The operator's program.
    #[arg(
        long,
        env = "FLASHSALE_OPERATOR",
        default_value = "target/release/flashsale-operator",
        hide = true
    )]
    pub operator: PathBuf,
    /// The folder of kube-apiserver and helm.
    #[arg(
        long,
        env = "FLASHSALE_CLUSTER_BIN",
        default_value = "/var/tmp/flashsale-cluster/bin",
        hide = true
    )]
    pub bin: PathBuf,
}
