//! A pod that is not the first one: makes its share of the users, starts them on the first pod's order, and sends the
//! results.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::buyers::arrivals::Sold;
use crate::buyers::users::Users;
use crate::config::Settings;
use crate::error::ConfigError;
use crate::pods::wire::{GATHER, Order, Recording, Report, listen, send, subject};
use crate::progress::Progress;
use crate::token;

const TRY_AGAIN: Duration = Duration::from_millis(200);
/// The first pod takes a silent pod for dead after some of these.
const BEAT: Duration = Duration::from_secs(1);

/// Works for the first pod until the run is over, and gives the verdict.
///
/// # Errors
/// When the first pod is not there, or ends before the verdict.
pub async fn work(settings: &Settings) -> Result<String, ConfigError> {
    let mut link = Link::open(settings).await?;
    let (run_id, products) = match link.next().await? {
        Order::Prepare { run_id, products } => (run_id, products),
        other => return Err(failed(&format!("unexpected {other:?} before the run"))),
    };
    let stop = CancellationToken::new();
    let progress = Arc::new(Progress::default());
    let users =
        Users::new(settings, &run_id, products, Arc::clone(&progress), stop.clone()).await?;
    link.tell(&Report::Ready).await?;
    match link.next().await? {
        Order::Go => {}
        other => return Err(failed(&format!("unexpected {other:?} before the start"))),
    }
    let begun = users.begun();
    let sold = link.accompany(users.buy(), &begun, &progress, &stop).await?;
    link.tell(&Report::Progress(progress.own())).await?;
    link.tell(&Report::Recording(Box::new(Recording::of(sold)))).await?;
    loop {
        match link.next().await? {
            Order::End { verdict } => return Ok(verdict),
            Order::Stop => {}
            other => return Err(failed(&format!("unexpected {other:?} after the run"))),
        }
    }
}

fn ended(reason: &str) -> ConfigError {
    failed(&format!("the first pod ended the run; its log has the reason ({reason})"))
}

fn failed(problem: &str) -> ConfigError {
    ConfigError::new("COORDINATOR", problem)
}

/// The connection to the first pod.
struct Link {
    orders: mpsc::Receiver<Result<Order, String>>,
    to: OwnedWriteHalf,
}

impl Link {
    async fn open(settings: &Settings) -> Result<Self, ConfigError> {
        let address = &settings.pods.coordinator;
        let deadline = Instant::now() + settings.wait + GATHER;
        let stream = loop {
            match TcpStream::connect(address.as_str()).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(failed(&format!("cannot connect to {address}: {error}")));
                }
                Err(_) => sleep(TRY_AGAIN).await,
            }
        };
        // The order to start is a small packet.
        stream.set_nodelay(true).map_err(|error| failed(&error.to_string()))?;
        let (from, to) = stream.into_split();
        let mut link = Self { orders: listen(BufReader::new(from)), to };
        let subject = subject(&settings.scenario.name, settings.pods.index);
        let token = token::sign_pod(&settings.jwt_secret, &subject)?;
        link.tell(&Report::Hello { token }).await?;
        Ok(link)
    }

    async fn next(&mut self) -> Result<Order, ConfigError> {
        order(self.orders.recv().await)
    }

    async fn tell(&mut self, report: &Report) -> Result<(), ConfigError> {
        tell(&mut self.to, report).await
    }

    /// Reports that the users have begun and their progress, and passes an order to stop on.
    async fn accompany(
        &mut self,
        users: impl Future<Output = Result<Sold, ConfigError>>,
        begun: &Notify,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Sold, ConfigError> {
        let mut users = std::pin::pin!(users);
        let mut beat = interval(BEAT);
        let mut has_begun = false;
        let Self { orders, to } = self;
        loop {
            tokio::select! {
                biased;
                () = begun.notified(), if !has_begun => {
                    has_begun = true;
                    tell(to, &Report::Started).await?;
                }
                sold = &mut users => {
                    // Without users, both happen at once.
                    if !has_begun {
                        tell(to, &Report::Started).await?;
                    }
                    return sold;
                }
                _ = beat.tick(), if has_begun => {
                    tell(to, &Report::Progress(progress.own())).await?;
                }
                next = orders.recv() => match order(next)? {
                    Order::Stop => stop.cancel(),
                    Order::End { verdict } => return Err(ended(&format!("its verdict is {verdict}"))),
                    other => return Err(failed(&format!("unexpected {other:?} during the run"))),
                },
            }
        }
    }
}

async fn tell(to: &mut OwnedWriteHalf, report: &Report) -> Result<(), ConfigError> {
    send(to, report).await.map_err(|error| ended(&error.to_string()))
}

fn order(next: Option<Result<Order, String>>) -> Result<Order, ConfigError> {
    match next {
        Some(Ok(order)) => Ok(order),
        Some(Err(reason)) => Err(ended(&reason)),
        None => Err(ended("no connection")),
    }
}
