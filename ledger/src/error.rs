//! Why the ledger gave no answer.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// Why a database cannot be used. Retrying does not help; somebody must change the database or the
/// settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusableDatabase {
    /// Two sales would share their stock.
    #[error(
        "the database belongs to the sale {owner:?}, and this is the sale {sale:?}: give this sale \
         a database of its own; or, when {owner:?} is over and its replicas have ended, run \
         `flashsale-app release-database {owner}`"
    )]
    OwnedByAnother {
        /// The sale that claimed it.
        owner: String,
        /// The sale that this process is of.
        sale: String,
    },
    /// A later version of the app changed the tables so that this one cannot use them.
    #[error(
        "the database needs an app that knows migration {needs}, and this one knows {knows} at \
         most: use the newer image"
    )]
    TooNew {
        /// What an app must know.
        needs: i64,
        /// The last that this one knows.
        knows: i64,
    },
    /// A later version of the app may have added what this one would miss.
    #[error(
        "the database has migration {has} of a newer version, and this one knows {knows} at most: \
         run this with the newer image"
    )]
    MigratedFurther {
        /// Its last migration.
        has: i64,
        /// The last that this app knows.
        knows: i64,
    },
    /// A pooler gives statements of one connection to several sessions.
    #[error(
        "the database is behind a pooler that gives each transaction another session (PgBouncer's \
         pool_mode transaction or statement): set pool_mode = session for it, or use the \
         database's own address"
    )]
    SharedSessions,
}

/// Why the ledger gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A later holder of the lock has written; nothing was changed.
    #[error("fencing token {token} is not above {seen}")]
    StaleToken {
        /// The token that was refused.
        token: i64,
        /// The product's fence.
        seen: i64,
    },
    /// Later holders of these products' locks have written, with these tokens; nothing was changed.
    #[error("fencing tokens are not above {0:?}")]
    StaleTokens(Vec<(String, i64)>),
    /// There is no such product; nothing was changed.
    #[error("unknown product {0}")]
    UnknownProduct(String),
    /// An order with a stock lower than what was already declared.
    #[error("stock of product {product} is {declared} already and cannot be lowered to {asked}")]
    StockLowered {
        /// The product.
        product: String,
        /// The stock declared before.
        declared: i64,
        /// The stock asked for.
        asked: i64,
    },
    /// The product that was to be made is there; nothing was changed.
    #[error("product {0} exists already")]
    ProductExists(String),
    /// The product that was declared was deleted by an administrator; nothing was changed.
    #[error("product {0} was deleted by an administrator")]
    ProductDeleted(String),
    /// The stock is not the one that the request names; nothing was changed.
    #[error("product {product} has been given {stock} units in all by now")]
    StockChanged {
        /// The product.
        product: String,
        /// The units it was given in all.
        stock: i64,
    },
    /// The URL names no database that is supported.
    #[error("{0:?} is neither a postgres:// nor a sqlite:// URL")]
    UnsupportedUrl(String),
    /// The database did not answer.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// A statement was sent, and its connection was lost before the answer: it may have been carried out.
    #[error("the connection to the database was lost before it answered")]
    ConnectionLost,
    /// The database failed, or is away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its tables could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrateError),
    /// Retrying does not help; somebody must change the database or the settings.
    #[error(transparent)]
    Unusable(#[from] UnusableDatabase),
}

impl LedgerError {
    /// The error of a token that was not installed; `seen` is the fence.
    pub(crate) fn refused(product_id: &str, token: i64, seen: Option<i64>) -> Self {
        match seen {
            Some(seen) => Self::StaleToken { token, seen },
            None => Self::UnknownProduct(product_id.to_owned()),
        }
    }

    /// Whether a starting process should give up instead of retrying.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unusable(_) | Self::UnsupportedUrl(_) => true,
            // The database is away, or a migration failed that another process began.
            Self::Migration(error) => matches!(error, MigrateError::VersionMismatch(_)),
            _ => false,
        }
    }

    /// Whether a constraint refuses it; retrying does not help.
    #[must_use]
    pub fn is_refused_by_a_rule(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation()
            || error.is_check_violation()
            || error.is_foreign_key_violation()
    }

    /// Whether the server refuses this user, password or database; retrying does not help.
    #[must_use]
    pub fn is_login_refused(&self) -> bool {
        let (Self::Database(error) | Self::Migration(MigrateError::Execute(error))) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        code.is_some_and(|code| code.starts_with(INVALID_AUTHORIZATION) || code == NO_SUCH_DATABASE)
    }

    /// The error when not all tokens were installed; `seen` are the fences.
    pub(crate) fn refused_among(refused: &[&str], seen: Vec<(String, i64)>) -> Self {
        let known = |product: &str| seen.iter().any(|(seen, _)| seen == product);
        match refused.iter().find(|product| !known(product)) {
            Some(product) => Self::UnknownProduct((*product).to_owned()),
            None => Self::StaleTokens(seen),
        }
    }

    /// Whether one buyer used one key for two products at the same time. Nothing was changed, and one of the
    /// orders exists now, so the next read finds it.
    pub(crate) fn is_crossed_keys(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation()
            || error.code().is_some_and(|code| code == DEADLOCK || code == SERIALIZATION_FAILURE)
    }
}

// PostgreSQL's `SQLSTATE`s.
const NO_SUCH_DATABASE: &str = "3D000";
/// A class of them: `28000` and `28P01`.
const INVALID_AUTHORIZATION: &str = "28";
const DEADLOCK: &str = "40P01";
const SERIALIZATION_FAILURE: &str = "40001";
