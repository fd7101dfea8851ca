//! Live stock for everybody who looks: one look at the catalog for all of them, a few times a
//! second, and one rendered event that all are sent.
//!
//! A listener costs a place, and memory for one event, however slowly it reads: it gets the newest
//! event, not each. It knows no HTTP but the form of an event.

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

use crate::concurrency_limit::{ConcurrencyLimit, LimitReached, Permit};
use crate::http::problem::ApiError;
use crate::upkeep::restart_on_panic;

/// Bounds on those who follow the stock by events.
#[derive(Debug, Clone, Copy)]
pub struct ListenersConfig {
    /// `EVENT_LISTENERS`
    pub total: usize,
    /// `EVENT_LISTENERS_PER_ADDRESS`
    pub per_address: usize,
}

/// The least time between two events.
const BETWEEN: Duration = Duration::from_millis(100);
/// And so much more for each listener, so that lookers leave the processor to buyers.
const PER_LISTENER: Duration = Duration::from_micros(50);
/// What lies between drops connections that say nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What can be followed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// All of the sale.
    Sale,
    /// One product.
    Product(String),
}

/// What may be done with a sale or a product now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// Before the start.
    Scheduled,
    /// It can be bought.
    Open,
    /// Nothing is left.
    SoldOut,
    /// After the end.
    Ended,
}

/// The sale as everybody may see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleView {
    /// The server's time; not in events, which are the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    now: Option<Timestamp>,
    state: SaleState,
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Timestamp>,
    products: Vec<OfferView>,
}

/// A product as everybody may see it.
#[derive(Debug, Serialize, ToSchema)]
struct OfferView {
    #[schema(example = "1")]
    id: String,
    #[schema(example = "Console")]
    name: String,
    /// Units the sale was given in all.
    #[schema(example = 100)]
    stock: i64,
    /// Units left.
    #[schema(example = 42)]
    remaining: i64,
    /// Units one buyer may have in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_buyer: Option<i64>,
}

/// The event `stock`.
#[derive(Serialize)]
struct StockEvent<'a> {
    product_id: &'a str,
    remaining: i64,
    state: SaleState,
}

/// Tells listeners. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sale: Arc<Sale>,
    topics: Mutex<HashMap<Topic, Channel>>,
    /// Of all topics.
    listener_limit: Arc<ConcurrencyLimit>,
    /// There is a listener.
    wanted: Notify,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Channel {
    /// The newest event as it is sent.
    event: watch::Sender<Bytes>,
    /// What it says.
    state: Bytes,
    sent: Instant,
}

/// The sale as everybody may see it.
#[must_use]
pub fn sale_view(sale: &Sale, now: Option<Timestamp>) -> SaleView {
    let (window, listings) = (sale.window(), sale.catalog().list());
    let left = listings.is_empty() || listings.iter().any(|listing| listing.remaining > 0);
    SaleView {
        now,
        state: state(sale, i64::from(left)),
        starts_at: window.starts_at,
        ends_at: window.ends_at,
        products: listings.into_iter().map(offer).collect(),
    }
}

fn offer(Listing { product, remaining }: Listing) -> OfferView {
    OfferView {
        id: product.id,
        name: product.name,
        stock: product.declared,
        remaining,
        max_per_buyer: product.max_per_buyer,
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
    /// Tells so many listeners at a time, until `shutdown`, which also ends what they are told.
    #[must_use]
    pub fn start(sale: Arc<Sale>, listeners: ListenersConfig, shutdown: CancellationToken) -> Self {
        let shared = Arc::new(Shared {
            sale,
            topics: Mutex::default(),
            listener_limit: ConcurrencyLimit::new(listeners.total, listeners.per_address),
            wanted: Notify::new(),
            shutdown,
        });
        let telling = Arc::clone(&shared);
        tokio::spawn(async move {
            let shutdown = telling.shutdown.clone();
            // None: shut down.
            let telling = restart_on_panic("telling listeners", || telling.tell());
            let _ = shutdown.run_until_cancelled(telling).await;
        });
        Self { shared }
    }

    /// How many listen now.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.listeners()
    }

    /// The events of a topic for a listener at this address, beginning with the present state.
    ///
    /// # Errors
    /// When there is no such product, no place, or nothing is known yet.
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
        self.shared.wanted.notify_one();
        // After a replica has ended, not all of its listeners come to the next at once.
        let retry = format!("retry: {}\n\n", rand::random_range(1000..4000));
        let listening =
            Listening { events, shutdown: self.shared.shutdown.clone(), _permit: permit };
        Ok(stream::iter([Ok(retry.into())]).chain(listening.stream()))
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
        topics.insert(topic, Channel { event: sender, state: event, sent: Instant::now() });
        Ok(events)
    }

    /// The present state as an event; `None`: there is no such product.
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

    async fn tell(&self) {
        loop {
            let listeners = u32::try_from(self.listeners()).unwrap_or(u32::MAX);
            sleep(BETWEEN + PER_LISTENER * listeners).await;
            if self.tell_once() == 0 {
                self.wanted.notified().await;
            }
        }
    }

    /// Sends what changed; returns how many topics somebody follows.
    fn tell_once(&self) -> usize {
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
                channel.sent = Instant::now();
            } else if channel.sent.elapsed() >= KEEP_ALIVE {
                // With the state again: who has not read the last event yet gets this one instead.
                channel.event.send_replace([b": keep-alive\n\n", &event[..]].concat().into());
                channel.sent = Instant::now();
            }
            true
        });
        topics.len()
    }
}

/// One who listens.
struct Listening {
    events: watch::Receiver<Bytes>,
    shutdown: CancellationToken,
    _permit: Permit,
}

impl Listening {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, async |mut listening| {
            let changed = listening.events.changed();
            // The end: of the product, or of this replica.
            listening.shutdown.run_until_cancelled(changed).await?.ok()?;
            let event = listening.events.borrow_and_update().clone();
            Some((Ok(event), listening))
        })
    }
}
