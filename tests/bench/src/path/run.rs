//! One load on a running sale: what came of it, what it cost, and whether everybody agrees on what
//! was sold.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::time::sleep;

use super::ledger::Books;
use super::spent::Ticks;
use super::stage::Stage;
use super::wrk::{Asks, Keys, Load, Report};
use crate::figures::Cost;

/// Connections, caches and the database's plans are not what is measured. `wrk` knows whole seconds.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// After the last answer: requests that `wrk` left behind, and releases on their way.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(100);

/// What a load that sells nothing came to.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) per_second: f64,
    pub(super) cost: Cost,
}

/// What a load of purchases came to.
#[derive(Debug)]
pub(super) struct Sold {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
    pub(super) cost: Cost,
}

impl Stage {
    /// Answers a second of the route that does nothing else than check who asks.
    pub(super) async fn me(
        &self,
        figure: &str,
        connections: u32,
        lasting: Duration,
    ) -> Result<Answered> {
        self.wrk(connections, WARM_UP, Asks::Me, "", Keys::Numbered).await?;
        let earlier = Ticks::until_now(self)?;
        let report = self.wrk(connections, lasting, Asks::Me, "", Keys::Numbered).await?;
        let ticks = Ticks::until_now(self)?.since(earlier);
        report.ensure_nothing_refused()?;
        let per_second = report.rate(report.answers);
        eprintln!("  {figure}: {per_second:.0}/s");
        Ok(Answered { per_second, cost: ticks.each(report.answers) })
    }

    /// Purchases by this number of connections. There must be enough for all: a refusal is an error. Every order must have
    /// been answered, or asked for by a connection that `wrk` closed before the answer came: at most one for each, in the
    /// warm-up and in the load.
    pub(super) async fn purchases(
        &self,
        figure: &str,
        connections: u32,
        lasting: Duration,
    ) -> Result<Sold> {
        self.sold(figure, connections, lasting, Asks::Purchase).await
    }

    /// As [`Stage::purchases`], by what is asked for.
    pub(super) async fn sold(
        &self,
        figure: &str,
        connections: u32,
        lasting: Duration,
        asks: Asks,
    ) -> Result<Sold> {
        let before = self.settle().await?.orders;
        let warm_up = self.wrk(connections, WARM_UP, asks, "warm-up", Keys::Numbered).await?;
        let earlier = self.spent().await?;
        let report = self.wrk(connections, lasting, asks, figure, Keys::Numbered).await?;
        let spent = self.spent().await?.since(earlier);
        let orders = self.settle().await?.orders - before;
        // A refusal is answered sooner than a purchase.
        warm_up.ensure_nothing_refused()?;
        report.ensure_nothing_refused()?;

        let answers = warm_up.accepted() + report.accepted();
        audit(orders, answers, 2 * u64::from(connections))?;
        let sold = Sold {
            per_second: report.rate(report.accepted()),
            p99_ms: report.p99_ms(),
            cost: spent.each(report.accepted())?,
        };
        eprintln!(
            "  {figure}: {:.0}/s, P99 {:.1} ms; {orders} orders = {answers} answers 201 + {} \
             that wrk did not wait for = stock taken on {} nodes",
            sold.per_second,
            sold.p99_ms,
            orders - answers,
            self.redis.len(),
        );
        Ok(sold)
    }

    /// Answers a second when nothing is left: all must be refused.
    pub(super) async fn sold_out(
        &self,
        figure: &str,
        connections: u32,
        lasting: Duration,
    ) -> Result<Answered> {
        // Its first purchases take what there is.
        self.wrk(connections, WARM_UP, Asks::Purchase, "warm-up", Keys::Numbered).await?;
        let before = self.settle().await?;
        let left: i64 = before.available.values().sum();
        ensure!(left == 0, "{left} units are left after the warm-up");
        let conflicts = self.conflicts().await?;
        let earlier = Ticks::until_now(self)?;
        let report = self.wrk(connections, lasting, Asks::Purchase, figure, Keys::Numbered).await?;
        let ticks = Ticks::until_now(self)?.since(earlier);
        let (after, conflicts) = (self.settle().await?, self.conflicts().await? - conflicts);
        ensure!(report.accepted() == 0, "{} were sold what is not there", report.accepted());
        ensure!(after == before, "the books changed though nothing was left");
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let all_conflicts = conflicts >= report.refused as f64;
        ensure!(all_conflicts, "{} refusals, {conflicts} of them 409", report.refused);
        let per_second = report.rate(report.refused);
        eprintln!("  {figure}: {per_second:.0}/s, all of them 409");
        Ok(Answered { per_second, cost: ticks.each(report.refused) })
    }

    async fn conflicts(&self) -> Result<f64> {
        let labels = ["route=\"/v1/purchases\"", "status=\"409\""];
        self.metric("flashsale_http_requests_total", &labels).await
    }

    pub(super) async fn wrk(
        &self,
        connections: u32,
        lasting: Duration,
        asks: Asks,
        run: &str,
        keys: Keys,
    ) -> Result<Report> {
        let ports: Vec<u16> = self.replicas.iter().map(|replica| replica.port).collect();
        let tokens = self.tokens_file();
        let load = Load {
            connections,
            lasting,
            scheme: if self.tls.is_some() { "https" } else { "http" },
            ports: &ports,
            tokens: &tokens,
            asks,
            products: &self.products,
            run,
            keys,
            core: None,
        };
        load.run(self.folder()).await
    }

    /// What the database says now.
    pub(super) async fn books(&self) -> Result<Books> {
        self.ledger.books().await
    }

    /// Waits until nothing is sold any more and every node says what the database says is left.
    pub(super) async fn settle(&self) -> Result<Books> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut books = self.ledger.books().await?;
        loop {
            sleep(SETTLE).await;
            let wrong = self.nodes_that_disagree(&books)?;
            let again = self.ledger.books().await?;
            if again == books && wrong.is_none() {
                return Ok(books);
            }
            if Instant::now() > deadline {
                bail!("the stores do not agree: {}", wrong.unwrap_or("it still sells".to_owned()));
            }
            books = again;
        }
    }

    fn nodes_that_disagree(&self, books: &Books) -> Result<Option<String>> {
        for server in &self.redis {
            for (product, available) in &books.available {
                let said = server.get(&format!("stock:{product}"))?;
                if said.as_deref() != Some(available.to_string().as_str()) {
                    let address = server.address();
                    let problem = format!("stock:{product} on {address} is {said:?}");
                    return Ok(Some(format!("{problem}, in the database {available}")));
                }
            }
        }
        Ok(None)
    }

    /// What purchases have cost until now.
    pub(super) async fn spent(&self) -> Result<Spent> {
        Ok(Spent { ticks: Ticks::until_now(self)?, work: self.work().await? })
    }

    async fn work(&self) -> Result<Work> {
        let mut redis_calls = 0.0;
        for server in &self.redis {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let calls = server.calls("evalsha")? as f64;
            redis_calls += calls;
        }
        Ok(Work {
            log_bytes: self.ledger.log_bytes().await?,
            decided: self.metric("flashsale_batch_size_sum", &[]).await?,
            batches: self.metric("flashsale_batch_size_count", &[]).await?,
            redis_calls,
        })
    }
}

/// What purchases cost: time of the cores, and work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) ticks: Ticks,
    work: Work,
}

impl Spent {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { ticks: self.ticks.since(earlier.ticks), work: self.work.since(earlier.work) }
    }

    /// Of each purchase that was answered.
    pub(super) fn each(self, answers: u64) -> Result<Cost> {
        let Work { decided, batches, redis_calls, log_bytes } = self.work;
        ensure!(batches > 0.0, "the app's metric flashsale_batch_size counted nothing");
        let mut cost = self.ticks.each(answers);
        cost.push(("batch", decided / batches));
        // Of all that were decided, though not all were answered.
        cost.push(("redis_calls", redis_calls / decided));
        cost.push(("log_bytes", log_bytes / decided));
        Ok(cost)
    }
}

/// What purchases were made of.
#[derive(Debug, Clone, Copy)]
struct Work {
    decided: f64,
    batches: f64,
    redis_calls: f64,
    log_bytes: f64,
}

impl Work {
    fn since(self, earlier: Self) -> Self {
        Self {
            decided: self.decided - earlier.decided,
            batches: self.batches - earlier.batches,
            redis_calls: self.redis_calls - earlier.redis_calls,
            log_bytes: self.log_bytes - earlier.log_bytes,
        }
    }
}

/// Orders without an answer are those that were asked for when `wrk` closed its connections.
fn audit(orders: u64, answers: u64, closed: u64) -> Result<()> {
    ensure!(answers > 0, "nothing was sold");
    ensure!(orders >= answers, "{answers} answers 201, and only {orders} orders");
    let unanswered = orders - answers;
    ensure!(
        unanswered <= closed,
        "{unanswered} orders were not answered, and wrk closed only {closed} connections"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_answered_or_was_asked_for_at_the_end() {
        assert!(audit(100, 100, 8).is_ok());
        assert!(audit(108, 100, 8).is_ok());
        assert!(audit(109, 100, 8).is_err());
        assert!(audit(99, 100, 8).is_err());
        assert!(audit(0, 0, 8).is_err());
    }
}
