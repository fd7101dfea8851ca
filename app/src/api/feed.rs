//! Live stock for any number of listeners: a task reads the catalog a few times a second, and renders
//! one event for all listeners of a topic.
//!
//! A listener receives the newest event, not each one, so even a slow reader costs the memory of only
//! one event. This module knows the text format of events, but no other part of HTTP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use sale::{Listing, PurchaseError, Sale};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::price_view::PriceView;
use crate::concurrency_limit::{ConcurrencyLimit, LimitReached, Permit};
use crate::http::problem::ApiError;
use crate::upkeep::restart_on_panic;

/// The maximum number of open event streams.
#[derive(Debug, Clone, Copy)]
pub struct ListenersConfig {
    /// `EVENT_LISTENERS`
    pub total: usize,
    /// `EVENT_LISTENERS_PER_ADDRESS`
    pub per_address: usize,
    /// `EVENT_KEEP_ALIVE_SECONDS`: proxies drop connections that are silent for longer than their idle timeout.
    pub keep_alive: Duration,
}

/// The minimum time between two events.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Added to the interval for each listener, so that listeners leave the processor to buyers.
const INTERVAL_PER_LISTENER: Duration = Duration::from_micros(50);

/// The subject of an event stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The whole sale.
    Sale,
    /// One product.
    Product(String),
}

/// The state of a sale or of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// Before the start.
    Scheduled,
    /// Units can be bought.
    Open,
    /// No units are left.
    SoldOut,
    /// After the end.
    Ended,
}

/// The public view of the sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleView {
    /// The time of the server; absent in events, which are the same for all listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    now: Option<Timestamp>,
    state: SaleState,
    /// `null`: the sale is open from the beginning.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    starts_at: Option<Timestamp>,
    /// `null`: the sale does not end by time.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    ends_at: Option<Timestamp>,
    products: Vec<OfferView>,
}

/// The public view of a product.
#[derive(Debug, Serialize, ToSchema)]
struct OfferView {
    #[schema(example = "1")]
    id: String,
    #[schema(example = "Console")]
    name: String,
    /// Total units, sold and unsold.
    #[schema(example = 100)]
    stock: i64,
    /// Units left.
    #[schema(example = 42)]
    remaining: i64,
    /// Units that one buyer may have in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_per_buyer: Option<i64>,
    /// Buyers who wait for units of a product that is sold out.
    #[schema(example = 0)]
    waiting: i64,
    /// The price of a unit. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    price: Option<PriceView>,
    /// How long an order of `POST /v1/orders` holds units of the product until it is paid, in seconds. Absent: it has no
    /// price, or the strategy of the sale is `Atomic`, which has no such orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 600)]
    hold_seconds: Option<u64>,
}

/// The event `stock`.
#[derive(Serialize)]
struct StockEvent<'a> {
    product_id: &'a str,
    remaining: i64,
    state: SaleState,
}

/// Publishes events to listeners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sale: Arc<Sale>,
    topics: Mutex<HashMap<Topic, Channel>>,
    /// Limits the listeners of all topics together.
    listener_limit: Arc<ConcurrencyLimit>,
    listener_joined: Notify,
    keep_alive: Duration,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Channel {
    /// The newest event as sent, perhaps with a keep-alive comment.
    event: watch::Sender<Bytes>,
    /// The same event without the comment.
    state: Bytes,
    sent_at: Instant,
}

/// The public view of the sale.
#[must_use]
pub fn sale_view(sale: &Sale, now: Option<Timestamp>) -> SaleView {
    let (window, listings) = (sale.window(), sale.catalog().list());
    let left = listings.is_empty() || listings.iter().any(|listing| listing.remaining > 0);
    SaleView {
        now,
        state: state(sale, i64::from(left)),
        starts_at: window.starts_at,
        ends_at: window.ends_at,
        products: listings.into_iter().map(|listing| offer(sale, listing)).collect(),
    }
}

fn offer(sale: &Sale, Listing { product, remaining, waiting, .. }: Listing) -> OfferView {
    OfferView {
        hold_seconds: sale.time_to_pay(&product).map(|hold| hold.as_secs()),
        price: product.unit_price().map(Into::into),
        id: product.id,
        name: product.name,
        stock: product.declared,
        remaining,
        max_per_buyer: product.max_per_buyer,
        waiting,
    }
}

fn state(sale: &Sale, remaining: i64) -> SaleState {
    match sale.window().check(Timestamp::now()) {
        Err(PurchaseError::NotStarted(_)) => SaleState::Scheduled,
        Err(_) => SaleState::Ended,
        Ok(()) if remaining > 0 => SaleState::Open,
        Ok(()) => SaleState::SoldOut,
    }
}

impl Feed {
    /// Publishes until `shutdown`, which also ends all streams.
    #[must_use]
    pub fn start(sale: Arc<Sale>, listeners: ListenersConfig, shutdown: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            sale,
            topics: Mutex::default(),
            listener_limit: ConcurrencyLimit::new(listeners.total, listeners.per_address),
            listener_joined: Notify::new(),
            keep_alive: listeners.keep_alive,
            shutdown,
        });
        let publisher = Arc::clone(&shared);
        tokio::spawn(async move {
            let shutdown = publisher.shutdown.clone();
            let publishing = restart_on_panic("publishing events", || publisher.publish());
            // `None`: shut down.
            let _ = shutdown.run_until_cancelled(publishing).await;
        });
        Self { shared }
    }

    /// Number of open event streams.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.listeners()
    }

    /// The events of a topic for a listener at this address, starting with the current state.
    ///
    /// # Errors
    /// When the product does not exist, a limit of listeners is reached, or the catalog is not loaded.
    pub fn follow(
        &self,
        topic: Topic,
        address: IpAddr,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, ApiError> {
        self.shared.sale.catalog().loaded()?;
        let permit =
            self.shared.listener_limit.try_acquire(address).map_err(|limit| match limit {
                LimitReached::Total => ApiError::TooManyListeners,
                LimitReached::PerAddress => ApiError::TooManyListenersHere,
            })?;
        let mut events = self.shared.subscribe(topic)?;
        events.mark_changed();
        self.shared.listener_joined.notify_one();
        // Spreads the reconnects of a replica's listeners after it has ended.
        let retry = format!("retry: {}\n\n", rand::random_range(1000..4000));
        let shutdown = self.shared.shutdown.clone();
        let subscription = Subscription { events, shutdown, _permit: permit };
        Ok(stream::iter([Ok(retry.into())]).chain(subscription.stream()))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Channel>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> usize {
        self.listener_limit.in_use()
    }

    fn subscribe(&self, topic: Topic) -> Result<watch::Receiver<Bytes>, ApiError> {
        let mut topics = self.lock();
        if let Some(channel) = topics.get(&topic) {
            return Ok(channel.event.subscribe());
        }
        let Some(event) = self.render(&topic) else {
            let Topic::Product(id) = topic else { return Err(ApiError::Internal) };
            return Err(PurchaseError::UnknownProduct(id).into());
        };
        let (sender, events) = watch::channel(event.clone());
        topics.insert(topic, Channel { event: sender, state: event, sent_at: Instant::now() });
        Ok(events)
    }

    /// The current state as an event; `None`: the product does not exist.
    fn render(&self, topic: &Topic) -> Option<Bytes> {
        let (name, data) = match topic {
            Topic::Sale => ("sale", serde_json::to_string(&sale_view(&self.sale, None))),
            Topic::Product(id) => {
                let remaining = self.sale.catalog().remaining(id)?;
                let state = state(&self.sale, remaining);
                let event = StockEvent { product_id: id, remaining, state };
                ("stock", serde_json::to_string(&event))
            }
        };
        Some(format!("event: {name}\ndata: {}\n\n", data.ok()?).into())
    }

    async fn publish(&self) {
        loop {
            let listeners = u32::try_from(self.listeners()).unwrap_or(u32::MAX);
            sleep(MIN_INTERVAL + INTERVAL_PER_LISTENER * listeners).await;
            if self.publish_changes() == 0 {
                self.listener_joined.notified().await;
            }
        }
    }

    /// Publishes the topics that changed; returns the number of topics with listeners.
    fn publish_changes(&self) -> usize {
        let mut topics = self.lock();
        topics.retain(|topic, channel| {
            if channel.event.is_closed() {
                return false;
            }
            let Some(event) = self.render(topic) else {
                channel.event.send_replace("event: gone\ndata: {}\n\n".into());
                return false;
            };
            if channel.state != event {
                channel.event.send_replace(event.clone());
                channel.state = event;
                channel.sent_at = Instant::now();
            } else if channel.sent_at.elapsed() >= self.keep_alive {
                // Repeats the state: this event replaces the last one for a slow reader.
                channel.event.send_replace([b": keep-alive\n\n", &event[..]].concat().into());
                channel.sent_at = Instant::now();
            }
            true
        });
        topics.len()
    }
}

/// The stream of one listener.
struct Subscription {
    events: watch::Receiver<Bytes>,
    shutdown: CancellationToken,
    _permit: Permit,
}

impl Subscription {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, async |mut subscription| {
            let changed = subscription.events.changed();
            // The stream ends with the product or with this replica.
            subscription.shutdown.run_until_cancelled(changed).await?.ok()?;
            let event = subscription.events.borrow_and_update().clone();
            Some((Ok(event), subscription))
        })
    }
}
