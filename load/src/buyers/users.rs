//! The users of a pod, ready to buy.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buyers::arrivals::{Crowd, Pace, Sold, Tickets, at_once, in_turn, one_by_one};
use crate::buyers::buyer::{Buyer, PurchaseOptions};
use crate::buyers::connections::Connections;
use crate::buyers::request;
use crate::config::Settings;
use crate::error::{ConfigError, error_chain};
use crate::http::{Authorities, Server};
use crate::progress::Progress;
use crate::token;

/// A pod's share of the users.
pub struct Users<'a> {
    settings: &'a Settings,
    run_id: String,
    crowd: Crowd,
    /// Made before the start; empty if they come one after the other.
    waiting: Vec<Buyer>,
}

impl<'a> Users<'a> {
    /// Makes the users who start at once, and looks the names of the API up: a crowd that did it would wait for that.
    ///
    /// # Errors
    /// When their tokens cannot be signed, or a URL is none or has no address.
    pub async fn new(
        settings: &'a Settings,
        run_id: &str,
        products: Vec<String>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Self, ConfigError> {
        let scenario = &settings.scenario;
        let servers = servers(settings)?;
        let lookup = resolve(&servers).await?;
        let options = PurchaseOptions {
            connections: Connections::new(scenario.connections, servers.len()),
            servers,
            kind: scenario.call,
            purchase: request::purchase(scenario.call, &products, scenario.quantity),
            products,
            admin_token: token::sign_admin(&settings.jwt_secret, "load-admin")?,
            pause: scenario.pause(),
            max_tries: scenario.max_tries,
            answer_timeout: scenario.answer_timeout(),
            honours_retry_after: scenario.users_per_second.is_some(),
        };
        let deadline = scenario.deadline();
        let (options, begun) = (Arc::new(options), Arc::default());
        let crowd = Crowd { options, progress, deadline, stop, lookup, begun };
        let mut users = Self { settings, run_id: run_id.to_owned(), crowd, waiting: Vec::new() };
        if scenario.users_per_second.is_none() {
            users.waiting =
                users.indexes().map(|index| users.buyer(index)).collect::<Result<_, _>>()?;
        }
        Ok(users)
    }

    /// Is notified once the users start.
    pub fn begun(&self) -> Arc<Notify> {
        Arc::clone(&self.crowd.begun)
    }

    /// Lets all users of this pod buy, at once or one after the other.
    ///
    /// # Errors
    /// When a token cannot be signed.
    pub async fn buy(mut self) -> Result<Sold, ConfigError> {
        let scenario = &self.settings.scenario;
        let Some(between) = scenario.between_users() else {
            return Ok(at_once(std::mem::take(&mut self.waiting), &self.crowd).await);
        };
        let pace = Pace { between, duration: scenario.duration() };
        one_by_one(self.indexes(), |index| self.buyer(index), &self.crowd, &pace).await
    }

    /// Lets the users buy in the order of their tickets; also the number of tickets that were not seen.
    pub async fn buy_in_turn(mut self, tickets: &mut impl Tickets) -> (Sold, usize) {
        in_turn(std::mem::take(&mut self.waiting), &self.crowd, tickets).await
    }

    /// The users take turns over the pods, so the pods together start them in the order of their numbers.
    fn indexes(&self) -> impl Iterator<Item = usize> + use<> {
        let pods = &self.settings.pods;
        let users = self.settings.scenario.users as usize;
        (pods.index as usize..users).step_by(pods.number.max(1) as usize)
    }

    fn buyer(&self, index: usize) -> Result<Buyer, ConfigError> {
        let subject = format!("{}{index}", users_of(&self.run_id));
        let token = token::sign(&self.settings.jwt_secret, &subject)?;
        let follow_up = self.settings.scenario.follow_up(index);
        Ok(Buyer { index, subject, token, follow_up })
    }
}

/// How the names of all users of a run begin.
pub fn users_of(run_id: &str) -> String {
    format!("load-{run_id}-")
}

/// Looks the names of all servers up; what the slowest took.
async fn resolve(servers: &[Arc<Server>]) -> Result<Duration, ConfigError> {
    let mut slowest = Duration::ZERO;
    for server in servers {
        let started = Instant::now();
        let found = server.resolve().await;
        found.map_err(|error| ConfigError::new("SALE_URL", error_chain(&error)))?;
        slowest = slowest.max(started.elapsed());
    }
    Ok(slowest)
}

/// The servers of `SALE_URL`.
///
/// # Errors
/// When one is not a URL, or the file of authorities cannot be read.
pub fn servers(settings: &Settings) -> Result<Vec<Arc<Server>>, ConfigError> {
    let authorities = authorities(settings)?;
    let server = |url: &String| {
        let server = Server::new(url, &authorities);
        server.map(Arc::new).map_err(|error| ConfigError::new("SALE_URL", error.to_string()))
    };
    settings.sale_urls.iter().map(server).collect()
}

/// The authorities of `SALE_CA_FILE`.
///
/// # Errors
/// When the file cannot be read.
pub fn authorities(settings: &Settings) -> Result<Authorities, ConfigError> {
    Authorities::read(settings.sale_ca_file.as_deref())
        .map_err(|problem| ConfigError::new("SALE_CA_FILE", problem))
}
