//! What the lock guards: a register in PostgreSQL that checks fencing tokens.

use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::history::Workload;

/// Either the transaction was done, or the register had seen this token, which is too high for it.
pub type Fenced<T> = Result<T, u64>;

/// The registers of all workloads.
#[derive(Debug, Clone)]
pub struct Registers {
    pool: PgPool,
}

impl Registers {
    /// Connects with up to this number of connections, as they are needed.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn connect(url: &str, connections: u32) -> sqlx::Result<Self> {
        let pool = PgPoolOptions::new().max_connections(connections).connect_lazy(url)?;
        Ok(Self { pool })
    }

    /// Makes the registers; each has the value 0 and has seen no token.
    ///
    /// # Errors
    /// When the database is away, or has them.
    pub async fn create(&self) -> sqlx::Result<()> {
        sqlx::raw_sql(
            "CREATE TABLE register (name text PRIMARY KEY, fence bigint NOT NULL DEFAULT 0, \
             value bigint NOT NULL DEFAULT 0)",
        )
        .execute(&self.pool)
        .await?;
        for workload in Workload::ALL {
            sqlx::query("INSERT INTO register (name) VALUES ($1)")
                .bind(workload.resource())
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// Transaction 1: installs the token, and reads.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn install(&self, workload: Workload, token: u64) -> sqlx::Result<Fenced<u64>> {
        let value: Option<i64> = sqlx::query_scalar(
            "UPDATE register SET fence = $2 WHERE name = $1 AND fence < $2 RETURNING value",
        )
        .bind(workload.resource())
        .bind(token.cast_signed())
        .fetch_optional(&self.pool)
        .await?;
        match value {
            Some(value) => Ok(Ok(value.cast_unsigned())),
            None => Ok(Err(self.fence(workload).await?)),
        }
    }

    /// Transaction 2: writes, if no higher token was installed since.
    ///
    /// # Errors
    /// When the database fails; the value may be written.
    pub async fn write(
        &self,
        workload: Workload,
        token: u64,
        value: u64,
    ) -> sqlx::Result<Fenced<()>> {
        self.update("fence = $2", workload, token, value).await
    }

    /// Ablation: checks the token only when it writes, against those of other writers.
    ///
    /// # Errors
    /// As [`Registers::write`].
    pub async fn write_checking_late(
        &self,
        workload: Workload,
        token: u64,
        value: u64,
    ) -> sqlx::Result<Fenced<()>> {
        self.update("fence <= $2", workload, token, value).await
    }

    /// Ablation: writes whatever the tokens are.
    ///
    /// # Errors
    /// As [`Registers::write`].
    pub async fn write_unfenced(
        &self,
        workload: Workload,
        token: u64,
        value: u64,
    ) -> sqlx::Result<Fenced<()>> {
        self.update("true", workload, token, value).await
    }

    async fn update(
        &self,
        condition: &str,
        workload: Workload,
        token: u64,
        value: u64,
    ) -> sqlx::Result<Fenced<()>> {
        let statement = format!(
            "UPDATE register SET value = $3, fence = greatest(fence, $2) \
             WHERE name = $1 AND {condition}"
        );
        let written = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(workload.resource())
            .bind(token.cast_signed())
            .bind(value.cast_signed())
            .execute(&self.pool)
            .await?
            .rows_affected();
        if written == 1 { Ok(Ok(())) } else { Ok(Err(self.fence(workload).await?)) }
    }

    /// The value, whatever was installed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(&self, workload: Workload) -> sqlx::Result<u64> {
        let value: i64 = sqlx::query_scalar("SELECT value FROM register WHERE name = $1")
            .bind(workload.resource())
            .fetch_one(&self.pool)
            .await?;
        Ok(value.cast_unsigned())
    }

    /// Whether no other process has a session on this database any more, so that nothing that was
    /// sent can still be written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_left_alone(&self) -> sqlx::Result<bool> {
        // Parallel sessions of this pool would count as others: it has one connection then.
        let others: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(others == 0)
    }

    async fn fence(&self, workload: Workload) -> sqlx::Result<u64> {
        let fence: i64 = sqlx::query_scalar("SELECT fence FROM register WHERE name = $1")
            .bind(workload.resource())
            .fetch_one(&self.pool)
            .await?;
        Ok(fence.cast_unsigned())
    }
}
