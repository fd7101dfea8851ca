//! Who gets a coupon, without a database: in order of arrival, one each.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::types::{Issue, Issued};

/// The state that the transaction read, and the decision made from it.
pub(crate) struct CouponAllocation<'a> {
    pub(crate) coupon_id: &'a str,
    pub(crate) remaining: i64,
    /// What these buyers have.
    pub(crate) existing: HashMap<String, Uuid>,
    /// Those who get theirs now.
    pub(crate) new: Vec<Issue>,
}

impl<'a> CouponAllocation<'a> {
    pub(crate) fn new(coupon_id: &'a str, remaining: i64, existing: HashMap<String, Uuid>) -> Self {
        Self { coupon_id, remaining, existing, new: Vec::new() }
    }

    pub(crate) fn issue_all(&mut self, buyers: &[&str]) -> Vec<Issued> {
        buyers.iter().map(|buyer| self.issue(buyer)).collect()
    }

    pub(crate) fn issue(&mut self, buyer: &str) -> Issued {
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

    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.new.len()).unwrap_or(i64::MAX)
    }
}

/// The buyers without repetitions: a buyer may have asked twice.
pub(crate) fn distinct<'a>(buyers: &[&'a str]) -> Vec<&'a str> {
    buyers.iter().copied().collect::<HashSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buyer_gets_one_and_not_one_more_is_issued_than_there_are() {
        let mut allocation =
            CouponAllocation::new("c", 2, HashMap::from([("ann".to_owned(), Uuid::nil())]));
        let outcomes = allocation.issue_all(&["ann", "bob", "bob", "carl", "dora", "ann"]);
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
        assert_eq!((first, allocation.remaining, allocation.count()), (again, 0, 2));
    }
}
