//! Coupons: so many of each, one for each buyer.

mod postgres;
mod sql;
mod sqlite;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Ledger, LedgerError, bounded, either};

/// A kind of coupon.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Coupon {
    /// Names it in the API and in Redis.
    pub id: String,
    /// How many there are in all.
    pub quantity: i64,
    /// How many of them have been issued.
    pub issued: i64,
    /// From when on they are issued, in milliseconds since 1970.
    pub starts_at_ms: Option<i64>,
    /// Until when, not included.
    pub ends_at_ms: Option<i64>,
    /// The highest fencing token that came here.
    pub fence: i64,
}

/// A coupon that a buyer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// In order of time.
    pub id: Uuid,
    /// Which kind.
    pub coupon_id: String,
    /// Whose.
    pub buyer: String,
}

/// What became of a request for a coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issued {
    /// Issued now.
    Now(Issue),
    /// The buyer has had it.
    Before(Issue),
    /// None is left.
    Exhausted,
}

/// What one transaction issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuance {
    /// One for each buyer, in their order.
    pub outcomes: Vec<Issued>,
    /// Coupons left after it.
    pub remaining: i64,
}

/// What the transaction read, and what it decides from it.
struct Roll<'a> {
    coupon_id: &'a str,
    remaining: i64,
    /// What these buyers have.
    existing: HashMap<String, Uuid>,
    /// Those who get theirs now.
    new: Vec<Issue>,
}

impl<'a> Roll<'a> {
    fn new(coupon_id: &'a str, remaining: i64, existing: HashMap<String, Uuid>) -> Self {
        Self { coupon_id, remaining, existing, new: Vec::new() }
    }

    fn issue_all(&mut self, buyers: &[&str]) -> Vec<Issued> {
        buyers.iter().map(|buyer| self.issue(buyer)).collect()
    }

    fn issue(&mut self, buyer: &str) -> Issued {
        let issue =
            |id| Issue { id, coupon_id: self.coupon_id.to_owned(), buyer: buyer.to_owned() };
        if let Some(id) = self.existing.get(buyer) {
            return Issued::Before(issue(*id));
        }
        if self.remaining < 1 {
            return Issued::Exhausted;
        }
        let issue = issue(Uuid::now_v7());
        self.remaining -= 1;
        self.existing.insert(buyer.to_owned(), issue.id);
        self.new.push(issue.clone());
        Issued::Now(issue)
    }

    fn count(&self) -> i64 {
        i64::try_from(self.new.len()).unwrap_or(i64::MAX)
    }
}

/// Each once: a buyer may have asked twice.
fn distinct<'a>(buyers: &[&'a str]) -> Vec<&'a str> {
    buyers.iter().copied().collect::<HashSet<_>>().into_iter().collect()
}

impl Ledger {
    /// Makes a coupon; `false` when the id is taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_coupon(&self, coupon: &Coupon) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.create_coupon(coupon)) }).await
    }

    /// The coupon with this id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn coupon(&self, id: &str) -> Result<Option<Coupon>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.coupon(id)) }).await
    }

    /// What those of these buyers have who have a coupon of the kind that is beside them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issues_of(
        &self,
        asked: &[(String, String)],
    ) -> Result<Vec<(String, String, Uuid)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.issues_of(asked)) }).await
    }

    /// Who has which coupon of this kind, in order of the buyers, from the one after this.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issues_after(
        &self,
        id: &str,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, Uuid)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.issues_after(id, buyer, limit)) }).await
    }

    /// Issues to these buyers, in their order, in one transaction.
    ///
    /// # Errors
    /// As [`Ledger::sell`], with [`LedgerError::UnknownProduct`] for an unknown coupon.
    pub async fn issue(
        &self,
        id: &str,
        token: i64,
        buyers: &[&str],
    ) -> Result<Issuance, LedgerError> {
        either!(self, ledger => ledger.issue(id, token, buyers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buyer_gets_one_and_not_one_more_is_issued_than_there_are() {
        let mut roll = Roll::new("c", 2, HashMap::from([("ann".to_owned(), Uuid::nil())]));
        let outcomes = roll.issue_all(&["ann", "bob", "bob", "carl", "dora", "ann"]);
        let kinds = outcomes.iter().map(|outcome| match outcome {
            Issued::Now(_) => "now",
            Issued::Before(_) => "before",
            Issued::Exhausted => "exhausted",
        });
        let expected = ["before", "now", "before", "now", "exhausted", "before"];
        assert_eq!(kinds.collect::<Vec<_>>(), expected);
        let (Issued::Now(first), Issued::Before(again)) = (&outcomes[1], &outcomes[2]) else {
            panic!("bob asked twice")
        };
        assert_eq!((first, roll.remaining, roll.count()), (again, 0, 2));
    }
}
