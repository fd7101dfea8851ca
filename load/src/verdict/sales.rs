//! What was sold: by the answers, by the database, and where they disagree. No network access.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::observed::{DatabaseState, Observed, Order, Purchases};
use crate::scenario::Scenario;

/// The state of an order that waits for its payment.
const PENDING: &str = "pending";
/// The state of an order whose payment did not come in time.
const EXPIRED: &str = "expired";

/// Sales according to the answers and the database.
#[derive(Debug, Default)]
pub struct Sales {
    /// Buyers that have an order
    pub buyers: u32,
    /// Units sold and not given back: of 201 responses, and of orders whose answer was lost
    pub units: i64,
    /// The larger of the units answered and the units recorded
    pub most_units: i64,
    /// Units of orders that were cancelled, whose payment failed, or that expired
    pub returned: i64,
    /// Of them: units of orders that were answered as pending, and expired after that
    pub expired: i64,
    pub orders_without_answer: u32,
    pub lost_answers: u32,
    /// Users without a confirmed order, by the last reason
    pub failed: BTreeMap<String, u32>,
    /// Disagreements between answers and database
    pub problems: Vec<String>,
}

impl Sales {
    /// Compares them.
    pub fn reconcile(observed: &Observed) -> Self {
        let Purchases { sold, failed, in_doubt, lost_answers, .. } = &observed.purchases;
        let mut sales =
            Self { lost_answers: *lost_answers, failed: failed.clone(), ..Self::default() };
        let mut answered: BTreeMap<&str, &Order> = BTreeMap::new();
        for (_, order) in sold {
            if let Some(other) = answered.insert(&order.id, order)
                && other.buyer != order.buyer
            {
                let problem =
                    format!("order {} was given to {} and {}", order.id, other.buyer, order.buyer);
                sales.problems.push(problem);
            }
        }
        sales.buyers = count(answered.len());
        let (held, returned) =
            answered.values().partition::<Vec<&&Order>, _>(|it| it.holds_units());
        sales.units = held.iter().map(|order| order.quantity).sum();
        sales.returned = returned.iter().map(|order| order.quantity).sum();
        sales.most_units = sales.units;
        if let Ok(database) = &observed.database {
            sales.compare(database, &answered, in_doubt.iter().map(String::as_str).collect());
        }
        sales
    }

    /// How many of the users must have bought. Units that came back when a hold ended may have come too late for anybody.
    pub fn expected_buyers(
        &self,
        scenario: &Scenario,
        users: u32,
        put_on_sale: i64,
        given_back: i64,
    ) -> RangeInclusive<u32> {
        let most = put_on_sale + self.returned;
        let in_time = most - given_back.max(0) - self.expired;
        scenario.expected_buyers(users, in_time)..=scenario.expected_buyers(users, most)
    }

    fn compare(
        &mut self,
        database: &DatabaseState,
        answered: &BTreeMap<&str, &Order>,
        mut in_doubt: BTreeSet<&str>,
    ) {
        let recorded: BTreeMap<&str, &Order> =
            database.orders.iter().map(|order| (order.id.as_str(), order)).collect();
        for (id, order) in answered {
            match recorded.get(id) {
                None => self
                    .problems
                    .push(format!("order {id} of {} is not in the database", order.buyer)),
                Some(found) if has_expired(order, found) => {
                    self.units -= found.quantity;
                    self.returned += found.quantity;
                    self.expired += found.quantity;
                }
                Some(found) if found != order => self.problems.push(format!(
                    "order {id} was answered as {} for {} ({}), but recorded as {} for {} ({})",
                    order.quantity,
                    order.buyer,
                    order.state,
                    found.quantity,
                    found.buyer,
                    found.state
                )),
                Some(_) => {}
            }
        }
        for order in &database.orders {
            if answered.contains_key(order.id.as_str()) {
                continue;
            }
            // One order per buyer in doubt, so the buyer is removed.
            if in_doubt.remove(order.buyer.as_str()) {
                self.orders_without_answer += 1;
                self.buyers += 1;
                if order.holds_units() {
                    self.units += order.quantity;
                } else {
                    self.returned += order.quantity;
                }
            } else {
                let problem = format!(
                    "order {} of {} is in the database without an answer 201",
                    order.id, order.buyer
                );
                self.problems.push(problem);
            }
        }
        let foreign = database.foreign.map_or(0, |foreign| foreign.units.max(0));
        self.most_units = self.units.max(held_units(&database.orders) + foreign);
        self.problems.extend(database.foreign.map(|foreign| match foreign.orders {
            0 => "orders of before the run are gone, and others are in the database".to_owned(),
            gone @ ..0 => format!("{} orders of before the run are gone", -gone),
            came => format!("{came} orders of others than the run's users came into the database"),
        }));
    }
}

/// Whether an order that was answered as pending has expired since then, and is the same otherwise.
fn has_expired(answered: &Order, recorded: &Order) -> bool {
    let is_of_hold = answered.state == PENDING && recorded.state == EXPIRED;
    is_of_hold && *answered == Order { state: PENDING.to_owned(), ..recorded.clone() }
}

/// Units that are sold and not given back.
pub fn held_units(orders: &[Order]) -> i64 {
    orders.iter().filter(|order| order.holds_units()).map(|order| order.quantity).sum()
}

/// A number of things, for the report.
pub fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
