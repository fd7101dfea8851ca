//! The statements of erasures, the same for both databases, and the steps of their transactions.

use serde_json::json;
use sqlx::{PgConnection, SqliteConnection};

use super::types::{Begun, ErasedNames, Erasure, Replaced, digest, new_pseudonym};
use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;
use crate::postgres::PostgresLedger;
use crate::sql::{postgres_now, sqlite_now};
use crate::sqlite::SqliteLedger;

const SALT: &str = "SELECT coalesce(erasure_salt, '') FROM installation";

const ROLE: &str = "SELECT role FROM accounts WHERE id = $1";

/// Whether there is anything about a buyer. The last two tables are those of earlier sales.
const IS_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = $1) \
     OR EXISTS (SELECT 1 FROM orders WHERE buyer = $1) \
     OR EXISTS (SELECT 1 FROM coupon_issues \
                WHERE coupon_id IN (SELECT id FROM coupons) AND buyer = $1) \
     OR EXISTS (SELECT 1 FROM waitlist WHERE buyer = $1) \
     OR EXISTS (SELECT 1 FROM past_orders WHERE buyer = $1) \
     OR EXISTS (SELECT 1 FROM past_coupon_issues WHERE buyer = $1)";

const DELETE_ACCOUNT: &str = "DELETE FROM accounts WHERE id = $1 AND role = 'buyer'";

const IN_ORDERS: &str = "UPDATE orders SET buyer = $2 WHERE buyer = $1";

const KEYS_OF: &str =
    "SELECT idempotency_key FROM orders WHERE buyer = $1 AND idempotency_key IS NOT NULL";

const REMOVE_KEYS: &str = "UPDATE orders SET idempotency_key = NULL \
     WHERE buyer = $1 AND idempotency_key IS NOT NULL";

/// The index begins with the coupon. Someone who got a coupon in the middle of an erasure may have it twice.
const IN_COUPONS: &str = "UPDATE coupon_issues SET buyer = CASE WHEN EXISTS \
     (SELECT 1 FROM coupon_issues o WHERE o.coupon_id = coupon_issues.coupon_id AND o.buyer = $2) \
     THEN $2 || '/' || CAST(id AS TEXT) ELSE $2 END \
     WHERE coupon_id IN (SELECT id FROM coupons) AND buyer = $1";

/// Entries of the audit log that are about a buyer.
macro_rules! about_buyers {
    () => {
        "action IN ('erase_buyer', 'export_buyer')"
    };
}

/// Reads all of the log: it has no index of targets.
const IN_AUDIT_LOG: &str =
    concat!("UPDATE audit_log SET target = $2 WHERE target = $1 AND ", about_buyers!());

/// Without a sign of what earlier sales sold to whom.
const ELSEWHERE: [&str; 4] = [
    "UPDATE past_orders SET buyer = $2, idempotency_key = NULL WHERE buyer = $1",
    "UPDATE past_coupon_issues SET buyer = $2 WHERE buyer = $1",
    IN_AUDIT_LOG,
    "UPDATE audit_log SET actor = $2 WHERE actor = $1",
];

/// Who is erased does not wait any more.
const STOP_WAITING: &str = "DELETE FROM waitlist WHERE buyer = $1";

const COUNTS: &str = "SELECT count(*), count(buyer) FROM erasures";

const FINISH: &str = "UPDATE erasures SET buyer = NULL WHERE buyer = $1";

const LOGGED_AFTER: &str = concat!(
    "SELECT DISTINCT target FROM audit_log WHERE target > $1 AND ",
    about_buyers!(),
    " AND target NOT LIKE 'erased:%' ORDER BY target LIMIT $2"
);

/// Names are in order of bytes, and pseudonyms among them.
const BUYERS_AFTER: &str = "SELECT DISTINCT buyer FROM orders WHERE buyer > $1 \
     AND buyer NOT LIKE 'erased:%' ORDER BY buyer LIMIT $2";

const HOLDERS_AFTER: &str = "SELECT coupon_id, buyer FROM coupon_issues \
     WHERE (coupon_id, buyer) > ($1, $2) AND buyer NOT LIKE 'erased:%' \
     ORDER BY coupon_id, buyer LIMIT $3";

/// One text for two types of connection, as in `change.rs`. `$now` is the time of the database: the replicas' clocks
/// may differ.
macro_rules! statements {
    ($now:expr, $begin:ident, $replace:ident, $replace_all:ident, $ledger:ty, $connection:ty, $read:ident, $write:ident) => {
        async fn $begin(
            connection: &mut $connection,
            buyer: &str,
            actor: &str,
        ) -> Result<Begun, LedgerError> {
            /// A second erasure of the same name goes on with the first one's pseudonym.
            const BEGIN: &str = concat!(
                "INSERT INTO erasures (digest, pseudonym, buyer, begun_at_ms) VALUES ($1, $2, $3, ",
                $now,
                ") ON CONFLICT (digest) DO UPDATE SET buyer = excluded.buyer, \
                 begun_at_ms = excluded.begun_at_ms RETURNING pseudonym"
            );
            let role: Option<String> =
                sqlx::query_scalar(ROLE).bind(buyer).fetch_optional(&mut *connection).await?;
            if role.as_deref() == Some("admin") {
                return Ok(Begun::Administrator);
            }
            let known: bool =
                sqlx::query_scalar(IS_KNOWN).bind(buyer).fetch_one(&mut *connection).await?;
            if !known {
                return Ok(Begun::UnknownBuyer);
            }
            let salt: String = sqlx::query_scalar(SALT).fetch_one(&mut *connection).await?;
            let pseudonym: String = sqlx::query_scalar(BEGIN)
                .bind(digest(&salt, buyer))
                .bind(new_pseudonym())
                .bind(buyer)
                .fetch_one(&mut *connection)
                .await?;
            let deleted =
                sqlx::query(DELETE_ACCOUNT).bind(buyer).execute(&mut *connection).await?;
            let detail = json!({"account": deleted.rows_affected() == 1});
            let entry = AuditEntry::new(actor, "erase_buyer", &pseudonym, Some(detail));
            connection.record(&entry).await?;
            let buyer = buyer.to_owned();
            Ok(Begun::Erasure(Erasure { buyer, pseudonym, age_ms: 0 }))
        }

        async fn $replace(
            connection: &mut $connection,
            buyer: &str,
            pseudonym: &str,
        ) -> Result<Replaced, LedgerError> {
            let mut counts = [0; 2];
            for (count, statement) in counts.iter_mut().zip([IN_ORDERS, IN_COUPONS]) {
                let replace = sqlx::query(statement).bind(buyer).bind(pseudonym);
                *count = replace.execute(&mut *connection).await?.rows_affected();
            }
            sqlx::query(STOP_WAITING).bind(buyer).execute(&mut *connection).await?;
            let [order_lines, coupons] = counts;
            Ok(Replaced { order_lines, coupons })
        }

        async fn $replace_all(
            connection: &mut $connection,
            erasure: &Erasure,
        ) -> Result<Replaced, LedgerError> {
            let Erasure { buyer, pseudonym, .. } = erasure;
            let replaced = $replace(connection, buyer, pseudonym).await?;
            // An account that was signed up while a replica did not know of the erasure.
            sqlx::query(DELETE_ACCOUNT).bind(buyer).execute(&mut *connection).await?;
            for statement in ELSEWHERE {
                let replace = sqlx::query(statement).bind(buyer).bind(pseudonym);
                replace.execute(&mut *connection).await?;
            }
            Ok(replaced)
        }

        impl $ledger {
            pub(super) async fn begin_erasure(&self, buyer: &str, actor: &str) -> Result<Begun, LedgerError> {
                let mut transaction = self.begin().await?;
                let begun = $begin(&mut transaction, buyer, actor).await;
                transaction.end(begun).await
            }

            pub(super) async fn replace_buyer(&self, erasure: &Erasure) -> Result<Replaced, LedgerError> {
                let mut transaction = self.begin().await?;
                let replaced = $replace_all(&mut transaction, erasure).await;
                transaction.end(replaced).await
            }

            pub(super) async fn replace_buyers(
                &self,
                buyers: &[String],
                are_logged: bool,
            ) -> Result<(), LedgerError> {
                let mut transaction = self.begin().await?;
                let replaced = async {
                    for buyer in buyers {
                        let pseudonym = new_pseudonym();
                        $replace(&mut transaction, buyer, &pseudonym).await?;
                        let remove = sqlx::query(REMOVE_KEYS).bind(&pseudonym);
                        remove.execute(&mut *transaction).await?;
                        if are_logged {
                            let log = sqlx::query(IN_AUDIT_LOG).bind(buyer).bind(&pseudonym);
                            log.execute(&mut *transaction).await?;
                        }
                    }
                    Ok(())
                }
                .await;
                transaction.end(replaced).await
            }

            pub(super) async fn clear_waitlist(&self) -> Result<(), LedgerError> {
                sqlx::query("DELETE FROM waitlist").execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn clear_erased_units(&self) -> Result<(), LedgerError> {
                sqlx::query("DELETE FROM erased_units").execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn keys_of(&self, pseudonym: &str) -> Result<Vec<String>, LedgerError> {
                let keys = sqlx::query_scalar(KEYS_OF).bind(pseudonym);
                Ok(keys.fetch_all(&self.$read).await?)
            }

            pub(super) async fn remove_keys(&self, pseudonym: &str) -> Result<(), LedgerError> {
                sqlx::query(REMOVE_KEYS).bind(pseudonym).execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn finish_erasure(&self, buyer: &str) -> Result<(), LedgerError> {
                sqlx::query(FINISH).bind(buyer).execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn pending_erasures(&self) -> Result<Vec<(String, String, i64)>, LedgerError> {
                const PENDING: &str = concat!(
                    "SELECT buyer, pseudonym, ",
                    $now,
                    " - begun_at_ms FROM erasures WHERE buyer IS NOT NULL"
                );
                Ok(sqlx::query_as(PENDING).fetch_all(&self.$read).await?)
            }

            pub(super) async fn now_ms(&self) -> Result<i64, LedgerError> {
                const NOW: &str = concat!("SELECT ", $now);
                Ok(sqlx::query_scalar(NOW).fetch_one(&self.$read).await?)
            }

            pub(super) async fn erasure_counts(&self) -> Result<(i64, i64), LedgerError> {
                Ok(sqlx::query_as(COUNTS).fetch_one(&self.$read).await?)
            }

            pub(super) async fn erased_names(&self) -> Result<ErasedNames, LedgerError> {
                let salt = sqlx::query_scalar(SALT).fetch_one(&self.$read).await?;
                let digests: Vec<String> = sqlx::query_scalar("SELECT digest FROM erasures")
                    .fetch_all(&self.$read)
                    .await?;
                Ok(ErasedNames { salt, digests: digests.into_iter().collect() })
            }

            pub(super) async fn logged_after(
                &self,
                buyer: &str,
                limit: i64,
            ) -> Result<Vec<String>, LedgerError> {
                let read = sqlx::query_scalar(LOGGED_AFTER).bind(buyer).bind(limit);
                Ok(read.fetch_all(&self.$read).await?)
            }

            pub(super) async fn buyers_after(
                &self,
                buyer: &str,
                limit: i64,
            ) -> Result<Vec<String>, LedgerError> {
                let read = sqlx::query_scalar(BUYERS_AFTER).bind(buyer).bind(limit);
                Ok(read.fetch_all(&self.$read).await?)
            }

            pub(super) async fn holders_after(
                &self,
                (coupon, buyer): (&str, &str),
                limit: i64,
            ) -> Result<Vec<(String, String)>, LedgerError> {
                let read = sqlx::query_as(HOLDERS_AFTER).bind(coupon).bind(buyer).bind(limit);
                Ok(read.fetch_all(&self.$read).await?)
            }
        }
    };
}

statements!(
    postgres_now!(),
    begin_on_postgres,
    replace_on_postgres,
    replace_all_on_postgres,
    PostgresLedger,
    PgConnection,
    pool,
    pool
);
statements!(
    sqlite_now!(),
    begin_on_sqlite,
    replace_on_sqlite,
    replace_all_on_sqlite,
    SqliteLedger,
    SqliteConnection,
    readers,
    writer
);
