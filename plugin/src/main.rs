//! The plugin's binary; [`kubectl_flashsale::cli`] has the command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    kubectl_flashsale::cli::main().await
}
