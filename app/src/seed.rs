//! `flashsale-app seed`: brings the declared products into the ledger and their stock onto the
//! nodes, and gives the administrator's account its password. Running it again changes nothing; a
//! stock that was raised adds the difference.

use std::collections::HashSet;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ledger::{Account, Ledger, LedgerError, ProductChange, ProductDeclaration};
use redlock::{Policy, Redlock};
use sale::{ChangeError, LeaseBounds, change_product, check_limit_claim, check_product};
use serde::Deserialize;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::auth::{Passwords, canonical_id};
use crate::config::{ConfigError, SeedConfig};

const RETRY: Duration = Duration::from_millis(250);
/// How long nodes beyond a quorum are waited for; one that comes later gets its stock with the
/// first release after.
const ALL_NODES: Duration = Duration::from_secs(10);

/// The file that `CATALOG_FILE` names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    products: Vec<ProductDeclaration>,
    /// The claim by which the sale limits buyers; absent: by their account.
    #[serde(default)]
    limit_claim: Option<String>,
}

/// A catalog whose products keep the rules.
#[derive(Debug)]
pub struct Catalog {
    /// The products.
    pub products: Vec<ProductDeclaration>,
    /// The claim by which the sale limits buyers; `None`: by their account.
    pub limit_claim: Option<String>,
}

/// Seeds; waits for the database and a quorum of nodes until the timeout.
///
/// # Errors
/// When the catalog is wrong, or something was away for the whole time.
pub async fn run(config: &SeedConfig) -> Result<()> {
    let path = config.catalog_file.display();
    let text = std::fs::read_to_string(&config.catalog_file)
        .with_context(|| format!("CATALOG_FILE: cannot read {path}"))?;
    let Catalog { products, limit_claim } =
        read_catalog(&text, LeaseBounds::from(&config.lock.nodes))
            .with_context(|| format!("CATALOG_FILE: {path}"))?;

    // One thing after the other needs one connection.
    let ledger = Ledger::connect_lazy(&config.database.location.url(), 1)
        .map_err(|error| ConfigError::unusable("DATABASE_URL", &error))?;
    let redlock = Redlock::start(&config.lock.nodes)
        .map_err(|error| ConfigError::unusable("REDIS_NODES", &error))?;
    let deadline = Instant::now() + config.timeout;

    if let Some(expected) = &config.database_id {
        let found = until(deadline, || ledger.database_id()).await?;
        is_expected(found.as_deref(), expected)?;
    }
    if config.take_over_database {
        take_over(&ledger, &config.database.sale_name, deadline).await?;
    }
    until(deadline, || ledger.prepare(&config.database.sale_name)).await?;
    if let Some((id, password)) = &config.admin {
        put_admin(&ledger, id, password).await?;
    }
    // Before the products: no replica may know a limit without knowing whom it is for.
    until(deadline, || ledger.set_limit_claim(limit_claim.as_deref())).await?;
    all_connected(&redlock, Instant::now() + ALL_NODES).await;
    for product in &products {
        declare(&ledger, &redlock, config.lock.policy, product, deadline).await?;
    }
    Ok(())
}

async fn take_over(ledger: &Ledger, sale: &str, deadline: Instant) -> Result<()> {
    until(deadline, || ledger.migrate()).await?;
    if let Some(previous) = ledger.take_over(sale).await? {
        info!(previous, "the database has been taken over");
    }
    Ok(())
}

/// A database without this sale's orders must not get the whole stock once more.
fn is_expected(found: Option<&str>, expected: &str) -> Result<()> {
    let found = match found {
        Some(found) if found == expected => return Ok(()),
        Some(found) => format!("its tables were made at {found}"),
        None => "it is empty".to_owned(),
    };
    bail!(
        "DATABASE_ID: this is not the database that the stock was put into (made at {expected}): \
         {found}; restore that one"
    )
}

/// The products of a catalog, each checked.
///
/// # Errors
/// When the catalog is no JSON of the right form, a product breaks a rule, or is declared twice, or the claim can stand for
/// nobody.
pub fn read_catalog(text: &str, leases: LeaseBounds) -> Result<Catalog> {
    let CatalogFile { products, limit_claim } = serde_json::from_str(text)?;
    if let Some(claim) = &limit_claim {
        check_limit_claim(claim).map_err(|error| anyhow!("catalog: {error}"))?;
    }
    let mut ids = HashSet::new();
    for product in &products {
        let id = &product.id;
        check_product(product, leases).map_err(|error| anyhow!("product {id:?}: {error}"))?;
        ensure!(ids.insert(id), "product {id:?}: id must not be that of another product");
    }
    Ok(Catalog { products, limit_claim })
}

/// Makes the account, or gives it this password if it has another: the setting is what counts.
async fn put_admin(ledger: &Ledger, id: &str, password: &str) -> Result<()> {
    let passwords = Passwords::new()?;
    let known = ledger.account(id).await?;
    if let Some(account) = &known {
        ensure!(
            account.role == "admin",
            "ADMIN_ID: the account {id:?} is a buyer's; choose another"
        );
        // A hash that can't be read is replaced like one of another password.
        let current = Some(account.password_hash.clone());
        if passwords.verify(password.to_owned(), current).await.unwrap_or(false) {
            return Ok(());
        }
    }
    let password_hash = passwords.hash(password.to_owned()).await?;
    if let Some(account) = known {
        // Its spelling may be another.
        ledger.set_admin_password(&account.id, &password_hash).await?;
        info!(id, "admin account has another password");
        return Ok(());
    }
    let account = Account { id: canonical_id(id), password_hash, role: "admin".to_owned() };
    if ledger.create_account(&account).await? {
        info!(id, "admin account made");
    }
    Ok(())
}

async fn all_connected(redlock: &Redlock, deadline: Instant) {
    loop {
        let (connected, nodes) = redlock.connected();
        if connected == nodes {
            return;
        }
        if Instant::now() >= deadline {
            warn!(connected, nodes, "seeding without all nodes");
            return;
        }
        sleep(RETRY / 10).await;
    }
}

/// Declares one product under its lock and leaves its stock on the nodes.
async fn declare(
    ledger: &Ledger,
    redlock: &Redlock,
    policy: Policy,
    product: &ProductDeclaration,
    deadline: Instant,
) -> Result<()> {
    let change = ProductChange::Declare(product.clone());
    let mut reported = false;
    loop {
        match change_product(ledger, redlock, policy, &change, None).await {
            Ok(declared) => {
                let remaining = declared.map(|declared| declared.available);
                info!(product = product.id, stock = product.stock, remaining, "seeded");
                return Ok(());
            }
            // It was declared when it was deleted, so to declare it again says nothing new.
            Err(ChangeError::Ledger(error @ LedgerError::ProductDeleted(_))) => {
                warn!(%error, "not seeded");
                return Ok(());
            }
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                if !reported {
                    warn!(%error, "trying again");
                }
                reported = true;
                sleep(RETRY).await;
            }
            Err(error) => return Err(error).with_context(|| format!("product {}", product.id)),
        }
    }
}

/// Asks the database until it answers or the deadline has passed; an error that stays is final.
async fn until<T, F>(deadline: Instant, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let mut reported = false;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_login_refused() => {
                return Err(ConfigError::unusable("DATABASE_URL", &error).into());
            }
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) if Instant::now() >= deadline => {
                bail!(anyhow::Error::from(error).context("the database did not come in time"))
            }
            Err(error) => {
                if !reported {
                    warn!(%error, "waiting for the database");
                }
                reported = true;
                sleep(RETRY).await;
            }
        }
    }
}
