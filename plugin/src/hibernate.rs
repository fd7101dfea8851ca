//! `hibernate` and `resume`: a sale without pods, and with them again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use flashsale_operator::crd::{FlashSale, HibernationMode, Phase, condition};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Explained};
use crate::sales;
use crate::table::parse_duration;
use crate::terminal::note;

const POLL: Duration = Duration::from_millis(500);

/// How the command waits.
#[derive(clap::Args, Debug)]
struct Waiting {
    /// Return when it is done
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
}

/// The flags of `hibernate`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
All pods end: nodes, database and replicas. Volumes, orders and Secrets stay.

A sale that may have buyers needs --even-if-open. These are the phases Open, Degraded (the sale goes on) and SoldOut (units
of unpaid orders come back); and before endsAt Provisioning, Pending and Failed, if a replica is ready.

Examples:
  kubectl flashsale hibernate -n shop black-friday
  kubectl flashsale hibernate -n shop black-friday --wait=false")]
pub struct HibernateOptions {
    /// The sale
    name: String,
    /// Hibernate a sale that may have buyers: they cannot connect until it is resumed
    #[arg(long)]
    even_if_open: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// The flags of `resume`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It sets hibernation.mode: Never. A sale with the mode AfterEnd gets it again with kubectl patch or apply.

Examples:
  kubectl flashsale resume -n shop black-friday
  kubectl flashsale resume -n shop black-friday --timeout 5m")]
pub struct ResumeOptions {
    /// The sale
    name: String,
    #[command(flatten)]
    waiting: Waiting,
}

/// Runs `hibernate`.
pub async fn hibernate(cluster: &Cluster, options: &HibernateOptions) -> Result<ExitCode> {
    let sale = sales::find(cluster, &options.name).await?;
    let is_declared =
        sale.spec.hibernation.as_ref().is_some_and(|it| it.mode == HibernationMode::Now);
    if !options.even_if_open && !is_declared && may_have_buyers(&sale, Timestamp::now()) {
        bail!(
            "the sale {} may have buyers ({}), and they could not connect: wait for its end, or add --even-if-open",
            options.name,
            progress(&sale)
        );
    }
    let asleep = |sale: &FlashSale| has_ready_phase(sale, |phase| phase == Phase::Hibernated);
    let sale = set(cluster, &options.name, json!({ "mode": "Now", "delay": null })).await?;
    wait(cluster, sale, &options.waiting, asleep).await
}

/// Runs `resume`.
pub async fn resume(cluster: &Cluster, options: &ResumeOptions) -> Result<ExitCode> {
    sales::find(cluster, &options.name).await?;
    let sale = set(cluster, &options.name, json!({ "mode": "Never", "delay": null })).await?;
    wait(cluster, sale, &options.waiting, is_awake).await
}

/// Whether buyers buy, pay or wait for units, as far as the status tells.
fn may_have_buyers(sale: &FlashSale, now: Timestamp) -> bool {
    let Some(status) = &sale.status else { return false };
    match status.phase {
        // By the times with which the replicas run: after a changed `endsAt`, one may still sell by the former.
        Phase::Scheduled | Phase::Ended | Phase::Hibernated => false,
        // What buyers of a sold out sale do not pay for is sold again.
        Phase::Open | Phase::SoldOut | Phase::Degraded => true,
        // Also the phases of a sale that was resumed: replicas that are ready sell while another part is not.
        Phase::Pending | Phase::Provisioning | Phase::Failed => {
            let is_over = sale.spec.ends_at.is_some_and(|end| now >= end);
            !is_over && status.app.as_ref().is_some_and(|app| app.ready > 0)
        }
    }
}

/// Changes the spec's hibernation; a missing one is made.
pub async fn set(cluster: &Cluster, name: &str, hibernation: Value) -> Result<FlashSale> {
    let sales: Api<FlashSale> = cluster.api();
    let patch = Patch::Merge(json!({ "spec": { "hibernation": hibernation } }));
    let params = PatchParams {
        field_manager: Some("kubectl-flashsale".to_owned()),
        ..PatchParams::default()
    };
    sales.patch(name, &params, &patch).await.explained(cluster)
}

/// Whether the sale has pods again and is ready.
pub fn is_awake(sale: &FlashSale) -> bool {
    has_ready_phase(sale, |phase| phase != Phase::Hibernated)
}

fn has_ready_phase(sale: &FlashSale, wanted: impl Fn(Phase) -> bool) -> bool {
    let Some(status) = &sale.status else { return false };
    let seen = sale.metadata.generation.is_none_or(|it| status.observed_generation >= it);
    seen && wanted(status.phase) && status.is_true(condition::READY)
}

async fn wait(
    cluster: &Cluster,
    sale: FlashSale,
    waiting: &Waiting,
    done: impl Fn(&FlashSale) -> bool,
) -> Result<ExitCode> {
    if waiting.wait {
        until(cluster, sale, waiting.timeout, done).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the sale is as wanted, and tells each step.
pub async fn until(
    cluster: &Cluster,
    mut sale: FlashSale,
    timeout: Duration,
    done: impl Fn(&FlashSale) -> bool,
) -> Result<FlashSale> {
    let started = Instant::now();
    let name = sale.name_any();
    let mut told = String::new();
    loop {
        let progress = progress(&sale);
        if progress != told {
            note(format_args!("{:>4} s  {progress}", started.elapsed().as_secs()));
            told = progress;
        }
        if done(&sale) {
            return Ok(sale);
        }
        if let Some(message) = stalled(&sale) {
            bail!("the sale {name} is stalled: {message}");
        }
        if started.elapsed() >= timeout {
            bail!(
                "not within {} s: {told}; kubectl flashsale status -n {} {name} says more",
                timeout.as_secs(),
                cluster.namespace
            );
        }
        sleep(POLL).await;
        sale = sales::find(cluster, &name).await?;
    }
}

fn progress(sale: &FlashSale) -> String {
    let Some(status) = &sale.status else { return "waiting for an operator".to_owned() };
    if sale.metadata.generation.is_some_and(|generation| status.observed_generation < generation) {
        return format!("{}: the operator has not seen the change yet", status.phase);
    }
    let ready = status.conditions.iter().find(|it| it.type_ == condition::READY);
    match ready {
        Some(ready) if ready.status != "True" => {
            format!("{}: {} {}", status.phase, ready.reason, ready.message)
        }
        _ => status.phase.to_string(),
    }
}

/// The message of a sale that needs a person.
fn stalled(sale: &FlashSale) -> Option<&str> {
    let status = sale.status.as_ref()?;
    let seen = sale.metadata.generation.is_none_or(|it| status.observed_generation >= it);
    let stalled = status.conditions.iter().find(|it| it.type_ == condition::STALLED)?;
    (seen && stalled.status == "True").then_some(stalled.message.as_str())
}

#[cfg(test)]
#[path = "hibernate/tests.rs"]
mod tests;
