//! The load tool's binary; [`flashsale_load::cli`] has the command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flashsale_load::cli::main().await
}
