//! 10,000 connections to one replica: what they leave of its throughput, and the memory they take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use tokio::time::sleep;

use super::stage::{Stage, USUAL};
use crate::figures::{Measured, Round, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "10,000 connections to one replica",
    rows: &[
        Row::Figure("purchases_10000", Unit::PerSecond),
        Row::Ratio("purchases_10000", "purchases_512", Some(Target::AtLeast(0.8))),
        Row::Judged("replica_memory_10000", Unit::Megabytes, Target::AtMost(120.0)),
        Row::Figure("purchases_10000_p99", Unit::Millis),
        Row::Figure("connections_open_10000", Unit::Count),
    ],
    round: |round| measure(round).boxed(),
};

const CONNECTIONS: u32 = 10_000;
const PERIOD: Duration = Duration::from_millis(500);

async fn measure(round: Round) -> Result<Measured> {
    let stage = Stage::start(&round, USUAL).await?;
    let (replica, mut samples) = (&stage.replicas[0], Vec::new());
    let sold = tokio::select! {
        // Opening the connections takes part of the time.
        sold = stage.purchases("purchases_10000", CONNECTIONS, round.lasting * 2) => sold?,
        failed = watch(&stage, &mut samples) => return Err(failed),
    };
    let memory = replica.peak_memory()?;
    let most = samples.iter().map(|sample| sample.open).max().unwrap_or_default();
    ensure!(most >= CONNECTIONS / 10 * 9, "at most {most} of {CONNECTIONS} connections were open");
    let per_second = while_crowded(&samples, most)
        .context("most connections were open in no two samples in succession")?;
    eprintln!("  purchases_10000: {per_second:.0}/s while most of {most} connections were open");
    eprintln!("  replica_memory_10000: {memory:.0} MB");
    let figures = vec![
        ("purchases_10000", per_second),
        ("purchases_10000_p99", sold.p99_ms),
        ("replica_memory_10000", memory),
        ("connections_open_10000", f64::from(most)),
    ];
    Ok(Measured { figures, costs: vec![("purchases_10000", sold.cost)] })
}

/// The replica at one moment.
#[derive(Debug)]
struct Sample {
    at: Instant,
    open: u32,
    sold: f64,
}

/// Takes samples until it is dropped or fails.
async fn watch(stage: &Stage, samples: &mut Vec<Sample>) -> anyhow::Error {
    let open = || anyhow::Ok(u32::try_from(stage.replicas[0].open_files()?)?);
    let others = match open() {
        Ok(others) => others,
        Err(error) => return error,
    };
    loop {
        sleep(PERIOD).await;
        let sold = stage.metric("flashsale_purchases_total", &["outcome=\"sold\""]).await;
        match (open(), sold) {
            (Ok(open), Ok(sold)) => {
                let open = open.saturating_sub(others);
                samples.push(Sample { at: Instant::now(), open, sold });
            }
            (Err(error), _) | (_, Err(error)) => return error,
        }
    }
}

/// Purchases a second from the first to the last sample with nearly as many connections as there
/// ever were; nothing if there are no two such samples in succession.
fn while_crowded(samples: &[Sample], most: u32) -> Option<f64> {
    let is_crowded = |sample: &&Sample| sample.open >= most / 10 * 9;
    let from_behind = samples.iter().rev().skip_while(|sample| !is_crowded(sample));
    let crowded: Vec<&Sample> = from_behind.take_while(is_crowded).collect();
    let (last, first) = (crowded.first()?, crowded.last()?);
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    (seconds > 0.0).then(|| (last.sold - first.sold) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_with_most_connections_counts() {
        let begin = Instant::now();
        // A warm-up, the opening of connections, the load, its end.
        let all = [(900, 0), (100, 50), (600, 60), (1000, 100), (950, 300), (1000, 500), (2, 501)];
        let samples: Vec<Sample> = (0..)
            .zip(all)
            .map(|(second, (open, sold))| {
                let at = begin + Duration::from_secs(second);
                Sample { at, open, sold: f64::from(sold) }
            })
            .collect();
        assert!((while_crowded(&samples, 1000).unwrap() - 200.0).abs() < 1e-6);
        assert!(while_crowded(&samples[..1], 900).is_none());
        assert!(while_crowded(&[], 0).is_none());
    }
}
