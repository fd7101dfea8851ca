//! Buyers at work while something fails or changes: the load Job of `manifests/load/sustained.yaml`, from its start to its
//! verdict.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde_json::Value;

use crate::load::{Load, Verdict};
use crate::shop::{SOON, Shop};
use crate::wait::{condition, within};

const MANIFEST: &str = "manifests/load/sustained.yaml";
/// How long the last buyers may take, and the verdict after them.
const END: Duration = Duration::from_mins(3);
/// How often a command in a pod may fail because the pod is just restarting, before the wait gives up by its deadline.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a failure may cost the buyers. All else is a defect: an order that is lost or doubled, a unit that is missing, a
/// buyer without a final answer.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    /// Codes with which attempts may end before the buyer repeats them; `connection_lost` is no answer at all.
    pub refusals: &'a [&'a str],
    /// How long nobody may have bought anything.
    pub pause: Duration,
    /// Whether the Redis nodes need not be readable with the password that the load read at its start.
    pub new_redis_credentials: bool,
    /// Units by which the stock is raised meanwhile, which the load cannot know.
    pub raised: i64,
}

impl Allowed<'_> {
    /// Nothing: each attempt succeeds, and no pause is longer than this.
    #[must_use]
    pub const fn nothing(pause: Duration) -> Self {
        Self { refusals: &[], pause, new_redis_credentials: false, raised: 0 }
    }
}

/// Buyers who come until they are stopped.
pub struct Buyers<'a> {
    load: Load<'a>,
    step: String,
    started: Instant,
}

impl Shop {
    /// Lets buyers come, does `harm`, waits until it is over and the sale is ready, and judges what the buyers saw.
    ///
    /// # Errors
    /// When the sale does not become ready by itself, or the buyers saw more than is allowed.
    pub async fn step(
        &self,
        name: &str,
        allowed: Allowed<'_>,
        harm: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        let buyers = self.start_buyers(name).await?;
        harm().await.with_context(|| format!("step {name:?}"))?;
        self.await_ready().await.with_context(|| format!("after step {name:?}"))?;
        buyers.stop_and_judge(allowed).await.with_context(|| format!("step {name:?}"))
    }

    /// Starts the buyers and waits until one of them has bought something.
    ///
    /// # Errors
    /// When the load does not start, or nothing is sold.
    pub async fn start_buyers(&self, step: &str) -> Result<Buyers<'_>> {
        println!("==> {step}");
        let before = self.units_left().await?;
        let name: String =
            step.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ').collect();
        let name = format!("load-{}", name.to_lowercase().replace(' ', "-"));
        let load = self.start_load_as(&name, MANIFEST).await?;
        let buyers = Buyers { load, step: step.to_owned(), started: Instant::now() };
        buyers.buy(before).await?;
        Ok(buyers)
    }

    /// Units left according to any Redis node that can be asked.
    ///
    /// # Errors
    /// When none can be asked for a while.
    pub async fn units_left(&self) -> Result<i64> {
        within(SOON, "a Redis node to say what is left", async {
            loop {
                for node in (0..5).rev() {
                    if let Ok(left) = self.stock_on_node(node).await {
                        return Ok(left);
                    }
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        })
        .await
    }
}

impl Buyers<'_> {
    /// Waits until less than `left` units are left: purchases go on.
    async fn buy(&self, left: i64) -> Result<()> {
        within(SOON, "a purchase", async {
            while self.load.shop.units_left().await? >= left {}
            Ok(())
        })
        .await
    }

    /// Waits until somebody buys something from now on.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn go_on(&self) -> Result<()> {
        self.buy(self.load.shop.units_left().await?).await
    }

    /// Stops the buyers once somebody has bought something again, and judges what they saw.
    ///
    /// # Errors
    /// When they saw more than is allowed.
    pub async fn stop_and_judge(self, allowed: Allowed<'_>) -> Result<()> {
        let shop = self.load.shop;
        self.stop().await?.must_allow(shop, allowed).await
    }

    /// Stops the buyers once somebody has bought something again, and returns what they saw.
    ///
    /// # Errors
    /// When nobody buys, or there is no verdict.
    pub async fn stop(self) -> Result<Verdict> {
        self.go_on().await?;
        let shop = self.load.shop;
        let pod = self.load.started_pod().await?;
        // The Job ends by itself then, so its log stays.
        shop.exec(&pod, &["sh", "-c", "kill -TERM 1"]).await?;
        let ended = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            let phase = status.and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        within(END, "the verdict of the buyers", condition(shop.api::<Pod>(), &pod, ended)).await?;
        let log = shop.api::<Pod>().logs(&pod, &LogParams::default()).await?;
        let last = log.lines().last().context("the load printed nothing")?;
        let verdict = serde_json::from_str(last).with_context(|| format!("no verdict: {log}"))?;
        let verdict = Verdict(verdict);
        let seconds = self.started.elapsed().as_secs();
        println!("    {}: {seconds} s, {}", self.step, verdict.summary());
        Ok(verdict)
    }
}

impl Verdict {
    fn summary(&self) -> String {
        let Self(it) = self;
        format!(
            "{} users, {} sold, longest pause {} ms, answers {}, new tokens {}",
            it["users"], it["sold"], it["longest_pause_ms"], it["answers"], it["new_tokens"]
        )
    }

    async fn must_allow(&self, shop: &Shop, allowed: Allowed<'_>) -> Result<()> {
        let Self(it) = self;
        let wrong = it["wrong"].as_array().context("a verdict without a list of what is wrong")?;
        let is_excused = |name: &Value| {
            let (on_node, in_database) = ("stock on ", "stock in the database");
            let raised = allowed.raised != 0;
            name.as_str().is_some_and(|name| {
                name.starts_with(on_node) && (raised || allowed.new_redis_credentials)
                    || name == in_database && raised
            })
        };
        ensure!(wrong.iter().all(is_excused), "the load's verdict: {it:#}");
        if !wrong.is_empty() {
            let units = |name: &str| it[name].as_i64().with_context(|| format!("no {name}"));
            let left = units("stock")? - units("sold")? + allowed.raised;
            let stock = units("database_stock")?;
            ensure!(stock == left, "the database says {stock} are left, and not {left}");
            for node in 0..shop.stores.nodes {
                let stock = shop.stock_on_node(node).await?;
                ensure!(stock == left, "node {node} says {stock} are left, and not {left}");
            }
        }
        self.must_refuse_only_with(allowed.refusals)?;
        let pause = it["longest_pause_ms"].as_f64().context("a verdict without a pause")?;
        let most = allowed.pause.as_secs_f64() * 1000.0;
        ensure!(pause <= most, "nobody bought for {pause} ms; by second: {}", self.by_second());
        Ok(())
    }

    /// Attempts must have ended with a purchase or with one of these codes.
    ///
    /// # Errors
    /// With another code.
    pub fn must_refuse_only_with(&self, refusals: &[&str]) -> Result<()> {
        let answers = self.0["answers"].as_object().context("a verdict without answers")?;
        for code in answers.keys().filter(|code| *code != "sold") {
            let is_allowed = refusals.contains(&code.as_str());
            ensure!(is_allowed, "attempts ended with {code:?}; by second: {}", self.by_second());
        }
        Ok(())
    }

    /// The seconds in which something else than a purchase happened.
    fn by_second(&self) -> String {
        let seconds = self.0["answers_by_second"].as_array();
        let seconds = seconds.into_iter().flatten().enumerate();
        let odd = seconds.filter(|(_, answers)| {
            answers.as_object().is_none_or(|it| it.len() != 1 || !it.contains_key("sold"))
        });
        odd.map(|(second, answers)| format!("{second}: {answers}")).collect::<Vec<_>>().join(", ")
    }
}
