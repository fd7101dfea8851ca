//! The load tool's binary; [`flashsale_load::cli`] has the command line.

use std::io::Write as _;
use std::process::ExitCode;
use std::thread::available_parallelism;

use tokio::runtime::Builder;

fn main() -> ExitCode {
    // On one core, threads would only wait for each other.
    let is_alone = available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut runtime =
        if is_alone { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    match runtime.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(flashsale_load::cli::main());
            // A run that was abandoned may still look up a name.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            // The exit status says it too, if nobody reads this.
            let _ = writeln!(std::io::stderr(), "error: no runtime: {error}");
            ExitCode::from(2)
        }
    }
}
