//! Budgets that all replicas share. They are in one Redis node, the first one of the configuration, so one call decides
//! and all replicas ask the same node. While it is away, each replica has only its own budgets.
//!
//! Each call is a Lua script, so attempts at the same moment are decided one after the other, by the node's clock. The node
//! stores keyed hashes of ids and addresses, never these themselves.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult, Script, ScriptInvocation};
use redlock::Endpoint;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::budget::{
    Budget, PER_ADDRESS, PER_ID, PER_ID_AND_ADDRESS, SIGN_UPS_PER_ADDRESS, TooManyAttempts,
};
use crate::metrics::ClientMetrics;
use crate::upkeep::restart_on_panic;

/// The most members of each set, of some 120 bytes each.
const CAPACITY: usize = 20_000;
/// How long an attempt waits for the node.
const RESPONSE: Duration = Duration::from_millis(250);
const CONNECT: Duration = Duration::from_secs(1);
/// How often a node that is away is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// For how long after the last log-in of anybody the addresses of successful log-ins are remembered.
const REMEMBERED: Duration = Duration::from_hours(7 * 24);

const KNOWN: &str = "limits:log-ins:known";

/// See the module.
pub(super) struct SharedBudgets {
    endpoint: Endpoint,
    hashes: Hmac<Sha256>,
    charge: Script,
    settle: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
    lost: Notify,
    metrics: Arc<ClientMetrics>,
}

impl std::fmt::Debug for SharedBudgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedBudgets").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The budgets of an attempt.
#[derive(Debug, Clone)]
pub(super) struct Charges {
    /// Set, member and budget.
    budgets: Vec<(&'static str, String, Budget)>,
    /// The member that is exempt from the last budget after a success.
    exempt: Option<String>,
}

/// What the node said to an attempt.
#[derive(Debug)]
pub(super) enum Charged {
    /// It may be made.
    Yes,
    /// A budget is empty, and none was charged.
    No(TooManyAttempts),
    /// The node is away.
    Unknown,
}

impl SharedBudgets {
    /// Budgets in the first of these nodes, under hashes that only who has the sale's key can make. `None`: its address
    /// cannot be used.
    pub(super) fn start(
        nodes: &redlock::Config,
        key: &str,
        metrics: &Arc<ClientMetrics>,
        shutdown: &CancellationToken,
    ) -> Option<Arc<Self>> {
        let endpoint = Endpoint::new(nodes.nodes.first()?, nodes.ca_file.as_deref()).ok()?;
        let budgets = Arc::new(Self::new(endpoint, key, Arc::clone(metrics))?);
        let (connected, shutdown) = (Arc::clone(&budgets), shutdown.clone());
        tokio::spawn(async move {
            let kept = restart_on_panic("sharing the limits", || connected.keep_connected());
            shutdown.run_until_cancelled(kept).await;
        });
        Some(budgets)
    }

    fn new(endpoint: Endpoint, key: &str, metrics: Arc<ClientMetrics>) -> Option<Self> {
        Some(Self {
            endpoint,
            hashes: <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_bytes()).ok()?,
            charge: Script::new(include_str!("charge_attempt.lua")),
            settle: Script::new(include_str!("settle_attempt.lua")),
            connection: Mutex::default(),
            lost: Notify::new(),
            metrics,
        })
    }

    /// Keeps a connection to the node, until the future is dropped.
    async fn keep_connected(&self) {
        let mut reported = false;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    *self.lock() = Some(connection);
                    self.metrics.set_budgets_shared(true);
                    reported = false;
                    self.lost.notified().await;
                }
                Err(error) => {
                    if !reported {
                        warn!(%error, "log-ins and sign-ups are limited by this replica alone");
                    }
                    reported = true;
                }
            }
            self.metrics.set_budgets_shared(false);
            sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let client = self.endpoint.client().await?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The budgets of a log-in.
    pub(super) fn log_in(&self, id: &str, network: IpAddr) -> Charges {
        let address = network.to_string();
        let both = self.hash("id and address", &[id, "\0", &address].concat());
        Charges {
            budgets: vec![
                ("limits:log-ins:id-and-address", both.clone(), PER_ID_AND_ADDRESS),
                ("limits:log-ins:address", self.hash("address", &address), PER_ADDRESS),
                ("limits:log-ins:id", self.hash("id", id), PER_ID),
            ],
            exempt: Some(both),
        }
    }

    /// The budget of a sign-up.
    pub(super) fn sign_up(&self, network: IpAddr) -> Charges {
        let member = self.hash("address", &network.to_string());
        let budgets = vec![("limits:sign-ups:address", member, SIGN_UPS_PER_ADDRESS)];
        Charges { budgets, exempt: None }
    }

    /// Charges all of these budgets, or none.
    pub(super) async fn charge(&self, charges: &Charges) -> Charged {
        let call = charges.call(&self.charge);
        match self.invoke(&call).await {
            Some(0) => Charged::Yes,
            Some(wait) => {
                let retry_after = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
                Charged::No(TooManyAttempts { retry_after })
            }
            None => {
                self.metrics.budget_fallback();
                Charged::Unknown
            }
        }
    }

    /// Gives an attempt back that was charged.
    pub(super) async fn settle(&self, charges: &Charges, succeeded: bool) {
        let mut call = charges.call(&self.settle);
        call.arg(u8::from(succeeded)).arg(millis(REMEMBERED));
        // Without an answer the charge stays, until it is refilled.
        self.invoke(&call).await;
    }

    async fn invoke(&self, call: &ScriptInvocation<'_>) -> Option<i64> {
        let mut connection = self.lock().clone()?;
        match call.invoke_async::<i64>(&mut connection).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.on_error(&error);
                None
            }
        }
    }

    /// A node that refuses the call keeps its connection: another one would be refused as well.
    fn on_error(&self, error: &RedisError) {
        if error.code().is_none() && self.lock().take().is_some() {
            warn!(%error, "the node of the shared limits does not answer");
            self.lost.notify_one();
        }
    }

    fn hash(&self, kind: &str, text: &str) -> String {
        let mut mac = self.hashes.clone();
        mac.update(kind.as_bytes());
        mac.update(b"\0");
        mac.update(text.as_bytes());
        let hash = mac.finalize().into_bytes();
        let digit = |half: u8| char::from_digit(half.into(), 16);
        let half = hash.iter().take(hash.len() / 2);
        half.flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Charges {
    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for (set, ..) in &self.budgets {
            call.key(*set);
        }
        if self.exempt.is_some() {
            call.key(KNOWN);
        }
        call.arg(CAPACITY).arg(self.budgets.len());
        for (_, member, Budget { attempts, refill }) in &self.budgets {
            call.arg(member).arg(*attempts).arg(millis(*refill));
        }
        call.arg(self.exempt.as_deref().unwrap_or_default());
        call
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
