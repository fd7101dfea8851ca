//! Who gets a coupon, without a database: in order of arrival, one each.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::types::{Issue, Issued};
use crate::types::Applicant;

/// The state that the transaction read, and the decision made from it.
pub(crate) struct CouponAllocation<'a> {
    pub(crate) coupon_id: &'a str,
    pub(crate) remaining: i64,
    /// What these buyers have.
    pub(crate) existing: HashMap<String, Uuid>,
    /// Limit keys of persons who have one, by whatever account.
    pub(crate) persons: HashSet<String>,
    /// Those who get theirs now, with their limit keys.
    pub(crate) new: Vec<(Issue, Option<String>)>,
}

impl<'a> CouponAllocation<'a> {
    pub(crate) fn new(coupon_id: &'a str, remaining: i64, existing: HashMap<String, Uuid>) -> Self {
        Self { coupon_id, remaining, existing, persons: HashSet::new(), new: Vec::new() }
    }

    pub(crate) fn issue_all(&mut self, applicants: &[&Applicant]) -> Vec<Issued> {
        applicants.iter().map(|applicant| self.issue(applicant)).collect()
    }

    pub(crate) fn issue(&mut self, Applicant { buyer, limit_key }: &Applicant) -> Issued {
        let issue = |id| Issue { id, coupon_id: self.coupon_id.to_owned(), buyer: buyer.clone() };
        if let Some(id) = self.existing.get(buyer) {
            return Issued::Before(issue(*id));
        }
        if limit_key.as_ref().is_some_and(|key| self.persons.contains(key)) {
            return Issued::LimitReached;
        }
        if self.remaining < 1 {
            return Issued::Exhausted;
        }
        let issue = issue(Uuid::now_v7());
        self.remaining -= 1;
        self.existing.insert(buyer.clone(), issue.id);
        self.persons.extend(limit_key.clone());
        self.new.push((issue.clone(), limit_key.clone()));
        Issued::Now(issue)
    }

    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.new.len()).unwrap_or(i64::MAX)
    }
}

/// The buyers without repetitions: a buyer may have asked twice.
pub(crate) fn buyers<'a>(applicants: &[&'a Applicant]) -> Vec<&'a str> {
    let buyers = applicants.iter().map(|applicant| applicant.buyer.as_str());
    buyers.collect::<HashSet<_>>().into_iter().collect()
}

/// The limit keys, each once.
pub(crate) fn limit_keys<'a>(applicants: &[&'a Applicant]) -> Vec<&'a str> {
    let keys = applicants.iter().filter_map(|applicant| applicant.limit_key.as_deref());
    keys.collect::<HashSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applicant(buyer: &str, limit_key: Option<&str>) -> Applicant {
        Applicant { buyer: buyer.to_owned(), limit_key: limit_key.map(str::to_owned) }
    }

    fn kinds(outcomes: &[Issued]) -> Vec<&'static str> {
        let kind = |outcome: &Issued| match outcome {
            Issued::Now(_) => "now",
            Issued::Before(_) => "before",
            Issued::Exhausted => "exhausted",
            Issued::LimitReached => "limit",
        };
        outcomes.iter().map(kind).collect()
    }

    #[test]
    fn a_person_gets_one_by_whatever_account() {
        let mut allocation = CouponAllocation::new("c", 9, HashMap::new());
        allocation.persons.insert("q".to_owned());
        let applicants = [
            applicant("ann", Some("p")),
            applicant("anna", Some("p")),
            applicant("ann", Some("p")),
            applicant("bob", Some("q")),
        ];
        let outcomes = allocation.issue_all(&applicants.each_ref());
        assert_eq!(kinds(&outcomes), ["now", "limit", "before", "limit"]);
        assert_eq!(allocation.remaining, 8);
    }

    #[test]
    fn each_buyer_gets_one_and_not_one_more_is_issued_than_there_are() {
        let mut allocation =
            CouponAllocation::new("c", 2, HashMap::from([("ann".to_owned(), Uuid::nil())]));
        let names = ["ann", "bob", "bob", "carl", "dora", "ann"];
        let applicants = names.map(|name| applicant(name, None));
        let outcomes = allocation.issue_all(&applicants.each_ref());
        let expected = ["before", "now", "before", "now", "exhausted", "before"];
        assert_eq!(kinds(&outcomes), expected);
        let (Issued::Now(first), Issued::Before(again)) = (&outcomes[1], &outcomes[2]) else {
            panic!("bob asked twice")
        };
        assert_eq!((first, allocation.remaining, allocation.count()), (again, 0, 2));
    }
}
