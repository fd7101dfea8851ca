//! `flashsale-app serve`: a replica from start to shutdown.

mod background;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use ledger::Ledger;
use redlock::Redlock;
use sale::{Coupons, Observer, ObserverPair, Sale, SaleConfig};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::background::Background;
use crate::api::AllowedOrigins;
use crate::api::feed::Feed;
use crate::api::probes::ProbeState;
use crate::api::router;
use crate::api::state::{AppState, Parts, Readiness};
use crate::auth::{LoginRateLimiter, OperatorToken, Passwords, Provider, Tokens};
use crate::config::{AuthConfig, ConfigError, ServeConfig};
use crate::erasures::Erasures;
use crate::http::server;
use crate::http::shutdown::Shutdown;
use crate::http::threads::Threads;
use crate::http::tls::Tls;
use crate::http::{HttpConfig, TlsConfig};
use crate::metrics::{ClientMetrics, Metrics};
use crate::node_changes::NodeChanges;
use crate::order_events::Delivery;
use crate::payments::{Payments, Stripe};
use crate::traces::{Identity, Traces};
use crate::upkeep::restart_on_panic;

/// How long requests under way may take once connections are closed.
const FINISH: Duration = Duration::from_secs(10);

/// Serves the API and the probes on these sockets until `shutdown`.
///
/// # Errors
/// When a replica with this configuration can never work, or a socket fails.
pub async fn run(
    config: ServeConfig,
    api: TcpListener,
    internal: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let metrics = Arc::new(Metrics::new().context("metrics")?);
    let database = &config.database;
    let ledger = Ledger::connect_lazy(&database.location.url(), database.max_connections)
        .map_err(|error| ConfigError::unusable("DATABASE_URL", &error))?;
    let redlock = Redlock::start_observed(&config.sale.lock.nodes, Arc::clone(metrics.lock()) as _)
        .map_err(|error| ConfigError::unusable("REDIS_NODES", &error))?;
    let traces = traces(&config, &metrics)?;
    let observer = observer(&metrics, traces.as_ref());
    let sale = Sale::new(ledger.clone(), redlock.clone(), &config.sale, Arc::clone(&observer))
        .map(Arc::new)
        .map_err(|error| ConfigError::unusable("REDIS_NODES", &error))?;
    let coupons = Coupons::new(ledger.clone(), redlock.clone(), config.sale.lock.policy, observer);
    let coupons = Arc::new(coupons);
    let erasures = Arc::new(Erasures::new(ledger.clone(), Arc::clone(&sale), Arc::clone(&coupons)));
    let retention_days = config.buyers.retention_days;
    let count_every = config.sale.stores.compare_every;
    let delivery = delivery(&config, &ledger, &metrics)?;
    let (tokens, provider) = trusted(&config.auth)?;
    let (payments, stripe) = payments(&config, &sale, &ledger, &metrics)?;
    let tls = tls(config.tls, &metrics).await?;
    let readiness = Arc::new(Readiness::default());
    let ending = Shutdown::after(shutdown.clone(), config.http.drain_time);

    let probes = ProbeState {
        readiness: Arc::clone(&readiness),
        sale: Arc::clone(&sale),
        ledger: ledger.clone(),
        metrics: Arc::clone(&metrics),
        operator_token: config.auth.operator_token.as_deref().map(OperatorToken::new),
        redlock: redlock.clone(),
        node_changes: node_changes(&redlock, &config.sale),
    };
    let (nodes, secret) = (&config.sale.lock.nodes, &config.auth.secret);
    let state = AppState::of(Parts {
        sale: Arc::clone(&sale),
        coupons: Arc::clone(&coupons),
        ledger: ledger.clone(),
        tokens: Arc::new(tokens),
        passwords: Passwords::new()?.observed(Arc::clone(metrics.clients())),
        rate_limiter: LoginRateLimiter::start(nodes, secret, metrics.clients(), &shutdown),
        sign_up: Arc::new(config.buyers.sign_up),
        erasures: Arc::clone(&erasures),
        payments,
        trusted_proxies: config.auth.trusted_proxies,
        metrics: Arc::clone(&metrics),
        feed: Feed::start(Arc::clone(&sale), config.listeners, shutdown.clone()),
        replica: config.replica.into(),
    });
    info!(api = %api.local_addr()?, internal = %internal.local_addr()?, "listening");

    let background = Background {
        ledger,
        redlock,
        sale,
        coupons,
        erasures,
        delivery,
        readiness: Arc::clone(&readiness),
        metrics,
        retention_days,
        count_every,
    };
    let background = tokio::spawn(background.run(ending.closing().clone()));
    tokio::spawn(async move {
        shutdown.cancelled().await;
        readiness.end();
    });
    follow(provider, tls.clone(), stripe, ending.closing());
    let clients = Arc::clone(state.metrics.clients());
    let servers = Servers { config: config.http, tls, clients };
    let api_router = api_router(state, config.cors.as_ref(), traces.as_ref());
    servers
        .serve(api, api_router, internal, router::internal(probes), &ending)
        .await
        .context("cannot serve the API")?;
    // Ends with the same signal.
    let _ = background.await;
    if let Some(traces) = traces {
        traces.flush().await;
    }
    Ok(())
}

/// The API, traced if traces are on.
fn api_router(state: AppState, cors: Option<&AllowedOrigins>, traces: Option<&Traces>) -> Router {
    let api = router::api(state, cors);
    match traces {
        Some(traces) => traces.trace_requests(api),
        None => api,
    }
}

/// What changes the lock's nodes while this replica sells.
fn node_changes(redlock: &Redlock, config: &SaleConfig) -> Arc<NodeChanges> {
    let longest_lease = config.lock.nodes.longest_lease;
    Arc::new(NodeChanges::new(redlock.clone(), config.strategy, longest_lease))
}

/// Reads the provider's keys, the certificate and the secrets of payments again when they change, until `closing`.
fn follow(
    provider: Option<Arc<Provider>>,
    tls: Option<Arc<Tls>>,
    stripe: Option<Arc<Stripe>>,
    closing: &CancellationToken,
) {
    if let Some(stripe) = stripe {
        until(closing, async move {
            restart_on_panic("reading the secrets of Stripe", || stripe.watch()).await;
        });
    }
    if let Some(provider) = provider {
        until(closing, async move {
            restart_on_panic("reading the provider's keys", || provider.watch()).await;
        });
    }
    if let Some(tls) = tls {
        until(closing, async move {
            restart_on_panic("reading the TLS certificate", || tls.watch()).await;
        });
    }
}

/// Runs a task beside the others until `closing`.
fn until(closing: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let closing = closing.clone();
    tokio::spawn(async move { closing.run_until_cancelled(task).await });
}

/// Traces, if they are configured.
fn traces(config: &ServeConfig, metrics: &Metrics) -> Result<Option<Traces>> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let identity = Identity {
        sale: config.sale.name.clone(),
        replica: config.replica.clone(),
        scheme: if config.tls.is_some() { "https" } else { "http" },
        database: config.database.location.system(),
    };
    let metrics = metrics.with_traces().context("metrics")?;
    Ok(Some(Traces::start(traces, &identity, metrics).context("TLS to the collector of traces")?))
}

/// Takes the events of payment services; and Stripe, if it is configured.
fn payments(
    config: &ServeConfig,
    sale: &Arc<Sale>,
    ledger: &Ledger,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<Payments>, Option<Arc<Stripe>>)> {
    let stripe = config.payments.stripe.clone().map(Stripe::read).transpose();
    let stripe = stripe.map_err(|error| ConfigError::unusable("STRIPE_WEBHOOK_FILE", &error))?;
    let stripe = stripe.map(Arc::new);
    let (sale, metrics) = (Arc::clone(sale), Arc::clone(metrics));
    let payments = Payments::new(sale, ledger.clone(), metrics, stripe.clone());
    Ok((Arc::new(payments), stripe))
}

/// What sends the events of orders.
fn delivery(config: &ServeConfig, ledger: &Ledger, metrics: &Metrics) -> Result<Delivery> {
    let metrics = Arc::clone(metrics.events());
    let delivery = Delivery::new(&config.events, &config.sale.name, ledger.clone(), metrics);
    Ok(delivery.map_err(|file| ConfigError::unusable(file.setting, &file.error))?)
}

/// Who learns what the sale does.
fn observer(metrics: &Arc<Metrics>, traces: Option<&Traces>) -> Arc<dyn Observer> {
    match traces {
        None => Arc::clone(metrics) as _,
        Some(traces) => Arc::new(ObserverPair(Arc::clone(metrics) as _, traces.observer())),
    }
}

/// Whose tokens are accepted.
fn trusted(config: &AuthConfig) -> Result<(Tokens, Option<Arc<Provider>>)> {
    let mut tokens = Tokens::new(&config.secret);
    if let Some(secret) = &config.accepted_secret {
        tokens = tokens.accepting(secret);
    }
    let Some(provider) = &config.provider else { return Ok((tokens, None)) };
    let provider = Provider::read(provider.clone())
        .map_err(|error| ConfigError::unusable("JWKS_FILE", &error))?;
    let provider = Arc::new(provider);
    Ok((tokens.trusting(Arc::clone(&provider)), Some(provider)))
}

/// TLS of the API's port, if it is configured.
async fn tls(config: Option<TlsConfig>, metrics: &Metrics) -> Result<Option<Arc<Tls>>> {
    let Some(config) = config else { return Ok(None) };
    let metrics = metrics.with_tls().context("metrics")?;
    let tls = Tls::read(config, metrics).await;
    let tls = tls.map_err(|error| ConfigError::unusable(error.setting(), &error))?;
    Ok(Some(Arc::new(tls)))
}

/// Both sockets.
struct Servers {
    config: HttpConfig,
    /// Of the API only: probes and metrics stay plain.
    tls: Option<Arc<Tls>>,
    clients: Arc<ClientMetrics>,
}

impl Servers {
    async fn serve(
        &self,
        api: TcpListener,
        api_router: Router,
        internal: TcpListener,
        internal_router: Router,
        ending: &Shutdown,
    ) -> std::io::Result<()> {
        let serve = |listener, router, tls, shutdown| {
            server::serve(listener, router, self.config, tls, Arc::clone(&self.clients), shutdown)
        };
        let threads = Threads::start()?;
        let api = serve(threads.take_over(api)?, api_router, self.tls.clone(), ending.clone());
        let api = threads.spawn(api);
        // The probes answer as long as requests are under way.
        let drained = CancellationToken::new();
        let probes = Shutdown::unannounced(drained.clone());
        let internal = tokio::spawn(serve(internal, internal_router, None, probes));

        let deadline = async {
            ending.closing().cancelled().await;
            tokio::time::sleep(FINISH).await;
        };
        tokio::select! {
            ended = api => ended?,
            () = deadline => warn!("requests were still under way after {FINISH:?}"),
        }
        drained.cancel();
        let _ = timeout(Duration::from_secs(1), internal).await;
        Ok(())
    }
}
