//! Random rounds of the fault suite, for a given time: `cargo xtask test --faults-for 30m`.
//!
//! `--seed` plays one round again: the same faults with the same victims in the same order. How the
//! processes take turns is not replayed; a round that found something may need to be played often.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use flashsale_faults::round::{self, Round};

/// Random rounds of the fault suite.
#[derive(Parser)]
struct Arguments {
    /// Begin rounds for this number of seconds.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Only the round with this seed.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let Arguments { seconds, seed } = Arguments::parse();
    let worker = std::env::current_exe()?
        .parent()
        .context("a binary outside any folder")?
        .join("lock-client");
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut passed, mut failed) = (0, Vec::new());
    loop {
        let round = seed.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
        println!("round {}, seed {round}", passed + failed.len() + 1);
        let played = Round {
            name: "random",
            seed: round,
            again: format!("cargo xtask test --faults-seed {round}"),
            faults: round::at_random(round),
        };
        match round::run(&worker, &played) {
            Ok(()) => passed += 1,
            Err(error) => {
                println!("failed: {error:#}");
                failed.push(round.to_string());
            }
        }
        if seed.is_some() || Instant::now() >= until {
            break;
        }
    }
    println!("{passed} rounds passed, {} failed {}", failed.len(), failed.join(" "));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
