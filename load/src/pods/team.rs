//! The first pod's view of the others: they share the users of a run. One that is lost ends the run.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::io::BufReader;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::error::ConfigError;
use crate::pods::wire::{GATHER, Order, Recording, Report, listen, receive, send, subject};
use crate::progress::Progress;
use crate::terminal::note;
use crate::token;

/// Bytes of the first message: a stranger sends no more.
const LONGEST_HELLO: u64 = 4096;
const HELLO: Duration = Duration::from_secs(5);
/// A pod says something every second.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a pod may take to make its users.
const PREPARE: Duration = Duration::from_mins(1);

/// Why the pods have no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pod {pod} {reason}")]
pub struct LostPod {
    pub pod: u32,
    pub reason: String,
}

/// The other pods, connected.
#[derive(Default)]
pub struct Team {
    orders: BTreeMap<u32, OwnedWriteHalf>,
    reports: BTreeMap<u32, mpsc::Receiver<Result<Report, String>>>,
}

impl Team {
    /// Waits until all other pods have connected. Without others, it is empty at once.
    ///
    /// # Errors
    /// When one does not come in time.
    pub async fn gather(settings: &Settings) -> Result<Self, ConfigError> {
        let mut team = Self::default();
        let missing = |team: &Self| -> Vec<u32> {
            (1..settings.pods.number).filter(|pod| !team.orders.contains_key(pod)).collect()
        };
        if missing(&team).is_empty() {
            return Ok(team);
        }
        let listener = TcpListener::bind(settings.pods.listen).await.map_err(|error| {
            ConfigError::new("PODS", format!("cannot listen on {}: {error}", settings.pods.listen))
        })?;
        let wait = settings.wait + GATHER;
        let deadline = Instant::now() + wait;
        loop {
            let open = missing(&team);
            if open.is_empty() {
                return Ok(team);
            }
            let Ok(accepted) = timeout_at(deadline, listener.accept()).await else {
                let problem = format!(
                    "{} of {} pods came within {} s; missing: {open:?}. See `kubectl describe pods`; a network policy \
                     must let the pods of the Job reach each other",
                    settings.pods.number as usize - open.len(),
                    settings.pods.number,
                    wait.as_secs()
                );
                return Err(ConfigError::new("PODS", problem));
            };
            let Ok((stream, _)) = accepted else { continue };
            // Who says nothing holds up the others for some seconds only.
            if let Ok(Some((pod, from, to))) = timeout(HELLO, known(stream, settings)).await {
                note(format_args!("pod {pod} is here"));
                team.orders.insert(pod, to);
                team.reports.insert(pod, listen(from));
            }
        }
    }

    /// Lets all pods make their users, and waits until they have.
    pub async fn prepare(&mut self, run_id: &str, products: &[String]) -> Result<(), LostPod> {
        let order = Order::Prepare { run_id: run_id.to_owned(), products: products.to_vec() };
        self.tell(&order).await?;
        self.each(PREPARE, async |pod, reports| match next(pod, reports).await? {
            Report::Ready => Ok(()),
            other => Err(unexpected(pod, &other)),
        })
        .await
    }

    /// Starts all other pods, and waits until they have started. The result is the moment of the order.
    pub async fn go(&mut self) -> Result<Instant, LostPod> {
        let told = Instant::now();
        self.tell(&Order::Go).await?;
        self.each(PREPARE, async |pod, reports| match next(pod, reports).await? {
            Report::Started => Ok(()),
            other => Err(unexpected(pod, &other)),
        })
        .await?;
        Ok(told)
    }

    /// Follows all pods until the last of their users is done; passes on that no more users start.
    pub async fn recordings(
        &mut self,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Vec<Recording>, LostPod> {
        let Self { orders, reports } = self;
        let followed = reports.iter_mut().map(async |(pod, reports)| {
            let pod = *pod;
            loop {
                let silent = |_| lost(pod, &format!("was silent for {} s", SILENCE.as_secs()));
                match timeout(SILENCE, next(pod, reports)).await.map_err(silent)?? {
                    Report::Progress(counts) => progress.of_pod(pod, counts),
                    Report::Recording(recording) => return Ok(*recording),
                    other => return Err(unexpected(pod, &other)),
                }
            }
        });
        let mut followed = std::pin::pin!(try_join_all(followed));
        tokio::select! {
            recordings = &mut followed => return recordings,
            () = stop.cancelled() => {}
        }
        for (pod, to) in orders {
            send(to, &Order::Stop).await.map_err(|error| lost(*pod, &error.to_string()))?;
        }
        followed.await
    }

    /// Ends all pods. Who is gone by then has done its part.
    pub async fn end(mut self, verdict: &str) {
        for to in self.orders.values_mut() {
            drop(send(to, &Order::End { verdict: verdict.to_owned() }).await);
        }
    }

    async fn tell(&mut self, order: &Order) -> Result<(), LostPod> {
        let told = self.orders.iter_mut().map(async |(pod, to)| {
            send(to, order).await.map_err(|error| lost(*pod, &error.to_string()))
        });
        try_join_all(told).await.map(drop)
    }

    async fn each(
        &mut self,
        time: Duration,
        wait: impl AsyncFn(u32, &mut mpsc::Receiver<Result<Report, String>>) -> Result<(), LostPod>,
    ) -> Result<(), LostPod> {
        let wait = &wait;
        let waits = self.reports.iter_mut().map(async |(pod, reports)| {
            let late = |_| lost(*pod, &format!("did not respond within {} s", time.as_secs()));
            timeout(time, wait(*pod, reports)).await.map_err(late)?
        });
        try_join_all(waits).await.map(drop)
    }
}

async fn next(
    pod: u32,
    reports: &mut mpsc::Receiver<Result<Report, String>>,
) -> Result<Report, LostPod> {
    match reports.recv().await {
        Some(Ok(report)) => Ok(report),
        Some(Err(reason)) => Err(lost(pod, &format!("was lost: {reason}"))),
        None => Err(lost(pod, "was lost")),
    }
}

fn lost(pod: u32, reason: &str) -> LostPod {
    LostPod { pod, reason: reason.to_owned() }
}

fn unexpected(pod: u32, report: &Report) -> LostPod {
    let name = match report {
        Report::Hello { .. } => "a greeting",
        Report::Ready => "that it is ready",
        Report::Started => "that it has started",
        Report::Progress(_) => "how far it is",
        Report::Recording(_) => "its result",
    };
    lost(pod, &format!("told {name} at the wrong moment"))
}

type Known = (u32, BufReader<tokio::net::tcp::OwnedReadHalf>, OwnedWriteHalf);

/// A pod of this run, by its token.
async fn known(stream: TcpStream, settings: &Settings) -> Option<Known> {
    // The order to start is a small packet.
    stream.set_nodelay(true).ok()?;
    let (from, to) = stream.into_split();
    let mut from = BufReader::new(from);
    let Some(Report::Hello { token }) = receive(&mut from, LONGEST_HELLO).await.ok()? else {
        return None;
    };
    let said = token::pod_subject(&settings.jwt_secret, &token)?;
    let pod =
        (1..settings.pods.number).find(|pod| subject(&settings.scenario.name, *pod) == said)?;
    Some((pod, from, to))
}
