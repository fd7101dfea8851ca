//! The operator's binary; [`flashsale_operator::cli`] has the command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    flashsale_operator::cli::main().await
}
