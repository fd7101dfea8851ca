//! Measures the product against limits taken in the same run on the same machine.
//!
//! `figures` is the frame: what a bench declares, what its rounds record, and the table and JSON
//! that come of it. Each bench is a module that declares figures and measures one round of them:
//! `path` is the whole path of a purchase, `lock` the lock alone, `load` the load job itself. `scaling`
//! makes a model of what `path` measured. Run it by `cargo xtask bench`.

mod against;
mod cores;
mod figures;
mod load;
mod load_program;
mod lock;
mod machine;
mod path;
mod scaling;
mod slow_server;
#[cfg(test)]
mod smoke;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use figures::{Record, Round, Row, Section};
use machine::{Machine, Spent};

/// Measures the product against limits taken in the same run: the whole path of a purchase, unless
/// a command says otherwise.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    path: Options,
    /// Another version of flashsale-app: each round measures it too, in turn with this one.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Bench {
    /// The lock, against raw round trips to the same five nodes.
    Lock(Options),
    /// The load job, against wrk on the same server, and against servers whose response times are known.
    Load(Options),
    /// A model of the cost of a purchase, fitted to a run of the whole path.
    Scaling(scaling::Options),
    /// One of the two replicas that pass a lock to each other; started by `lock`.
    #[command(hide = true)]
    Replica(lock::ReplicaOptions),
}

#[derive(clap::Args)]
struct Options {
    /// How often everything is measured; the median counts [whole path: 3, lock and load: 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long each load lasts, in seconds; the lock's are fixed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Writes an object here: figure to median, minimum, maximum; the costs; the machine.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fails when a target is missed.
    #[arg(long)]
    strict: bool,
    /// Only sections whose title contains this, and those that measure their limits; an error that lists all titles if
    /// none does.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also says where the time of each purchase went.
    #[arg(long)]
    verbose: bool,
    /// The app's program, built with optimisation.
    #[arg(
        long,
        env = "FLASHSALE_APP",
        default_value = "target/release/flashsale-app",
        hide = true
    )]
    app: PathBuf,
    /// The load job's program, built with optimisation.
    #[arg(
        long,
        env = "FLASHSALE_LOAD",
        default_value = "target/release/flashsale-load",
        hide = true
    )]
    load: PathBuf,
}

/// Set by `cargo xtask bench` as long as it has built nothing but this program.
const UNPREPARED: &str = "FLASHSALE_BENCH_UNPREPARED";
/// The status that asks for the rest.
const PREPARE: u8 = 75;

fn main() -> ExitCode {
    let Arguments { bench, path, against } = Arguments::parse();
    let result = match bench {
        None => measure(&path, path::SECTIONS, path.rounds.unwrap_or(3), against.as_deref()),
        Some(Bench::Lock(options)) => {
            measure(&options, lock::SECTIONS, options.rounds.unwrap_or(5), None)
        }
        Some(Bench::Load(options)) => {
            measure(&options, load::SECTIONS, options.rounds.unwrap_or(5), None)
        }
        Some(Bench::Scaling(options)) => scaling::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Bench::Replica(options)) => lock::replica(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Measures all rounds and prints the results.
fn measure(
    options: &Options,
    sections: &[Section],
    rounds: u32,
    against: Option<&Path>,
) -> Result<ExitCode> {
    let chosen = choose(sections, options.only.as_deref())?;
    let mut apps = vec![std::path::absolute(&options.app)?];
    if let Some(other) = against {
        ensure!(other.is_file(), "--against {}: there is no such program", other.display());
        apps.push(std::path::absolute(other)?);
    }
    if std::env::var_os(UNPREPARED).is_some() {
        return Ok(ExitCode::from(PREPARE));
    }
    let (begin, commit) = (Spent::until_now(), machine::commit());
    let lasting = Duration::from_secs(options.seconds);
    let load = std::path::absolute(&options.load)?;
    let records = rounds_of(&chosen, rounds, lasting, &apps, &load)?;
    let results = records[0].results(&chosen)?;
    let machine = Machine::since(begin, commit);
    println!("{machine}\n{rounds} rounds\n");
    print!("{}", results.table(&chosen)?);
    let compared = records.get(1).map(|other| against::Comparison::of(&records[0], other, &chosen));
    if let Some(compared) = &compared {
        print!("\n{compared}");
    }
    if options.verbose {
        println!("\nCore time of each purchase in us, batches, calls\n{}", results.costs_table());
    }
    if let Some(path) = &options.json {
        let mut json = results.json(&chosen, &machine)?;
        if let Some(compared) = &compared {
            json["against"] = compared.json()?;
        }
        std::fs::write(path, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missed = results.missed(&chosen)?;
    if missed > 0 {
        println!("\n{missed} of the targets missed");
    }
    if rounds < 3 {
        println!("\nFewer than three rounds say little");
    }
    Ok(if options.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every round measures each figure of each app next to its limit; sections and apps take turns in
/// going first. A record for each app.
fn rounds_of(
    sections: &[&Section],
    rounds: u32,
    lasting: Duration,
    apps: &[PathBuf],
    load: &Path,
) -> Result<Vec<Record>> {
    let mut records: Vec<Record> = apps.iter().map(|_| Record::default()).collect();
    for number in 0..rounds {
        let mut in_turn = sections.to_vec();
        if number % 2 == 1 {
            in_turn.reverse();
        }
        for section in in_turn {
            let mut turn: Vec<(&PathBuf, &mut Record)> = apps.iter().zip(&mut records).collect();
            if number % 2 == 1 {
                turn.reverse();
            }
            for (app, record) in turn {
                let begin = Instant::now();
                eprintln!("round {} of {rounds}: {}", number + 1, section.title);
                if apps.len() > 1 {
                    eprintln!("  {}", app.display());
                }
                // A runtime of its own, so that nothing is left over from the section before.
                let runtime = Runtime::new()?;
                let round = Round { number, lasting, app: app.clone(), load: load.to_owned() };
                let measured = runtime.block_on(runtime.spawn((section.round)(round)))?;
                record.add(measured.context(section.title)?);
                eprintln!("  {:.0} s", begin.elapsed().as_secs_f64());
            }
        }
    }
    Ok(records)
}

/// Those whose titles contain the text, and those that measure what their ratios are taken of.
fn choose<'a>(sections: &'a [Section], only: Option<&str>) -> Result<Vec<&'a Section>> {
    let is_named = |section: &Section| only.is_none_or(|text| section.title.contains(text));
    let needed: Vec<&str> = sections
        .iter()
        .filter(|section| is_named(section))
        .flat_map(|section| section.rows)
        .filter(|row| matches!(row, Row::Ratio(..)))
        .flat_map(Row::figures)
        .collect();
    if !sections.iter().any(is_named) {
        let titles: Vec<&str> = sections.iter().map(|section| section.title).collect();
        bail!("--only {}: there are\n  {}", only.unwrap_or_default(), titles.join("\n  "));
    }
    let measures = |section: &Section| {
        let mut figures = section.rows.iter().filter(|row| !matches!(row, Row::Ratio(..)));
        figures.any(|row| row.figures().iter().any(|figure| needed.contains(figure)))
    };
    Ok(sections.iter().filter(|section| is_named(section) || measures(section)).collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_whole_path_is_measured_unless_a_command_says_otherwise() {
        Arguments::command().debug_assert();
        let parsed = |words: &[&str]| {
            Arguments::try_parse_from([&["bench"], words].concat()).map(|parsed| parsed.bench)
        };
        assert!(parsed(&["--only", "Fair", "--rounds", "1"]).unwrap().is_none());
        assert!(matches!(parsed(&["lock", "--strict"]), Ok(Some(Bench::Lock(_)))));
        assert!(matches!(parsed(&["load", "--rounds", "1"]), Ok(Some(Bench::Load(_)))));
        assert!(matches!(parsed(&["scaling", "run.json"]), Ok(Some(Bench::Scaling(_)))));
        assert!(parsed(&["scaling", "run.json", "--round-trip", "0.8"]).is_ok());
        assert!(parsed(&["scaling", "run.json", "--round-trip", "NaN"]).is_err());
        assert!(parsed(&["scaling", "run.json", "--round-trip", "1", "--write-docs"]).is_err());
        assert!(parsed(&["--rounds", "0"]).is_err());
    }

    #[test]
    fn a_part_brings_the_sections_that_measure_its_limits() {
        let titles = |only| -> Vec<&str> {
            choose(path::SECTIONS, Some(only))
                .unwrap()
                .iter()
                .map(|section| section.title)
                .collect()
        };
        let sqlite = titles("SQLite");
        assert_eq!(sqlite.len(), 2);
        assert!(sqlite[0].starts_with("512 connections") && sqlite[1].starts_with("SQLite"));
        assert_eq!(titles("64 connections").len(), 1);
        assert!(choose(path::SECTIONS, Some("no such section")).is_err());
        assert_eq!(choose(path::SECTIONS, None).unwrap().len(), path::SECTIONS.len());
    }

    #[test]
    fn every_ratio_is_of_figures_that_a_section_measures() {
        for sections in [path::SECTIONS, lock::SECTIONS, load::SECTIONS] {
            let rows = || sections.iter().flat_map(|section| section.rows);
            let is_measured = |figure: &&str| {
                rows().any(|row| !matches!(row, Row::Ratio(..)) && row.figures().contains(figure))
            };
            assert!(rows().flat_map(Row::figures).all(|figure| is_measured(&figure)));
        }
    }
}
