//! The sale in one statement: it looks up keys and limits, takes the units and writes the orders.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::connection::{IsRepeated, fetch};
use super::known_units::{KnownUnits, Usable};
use super::rows::{Columns, row};
use crate::demand::{Decided, Demand};
use crate::error::LedgerError;
use crate::money::Price;
use crate::sql;
use crate::types::{Decision, Order, Outcome};

/// Decides the purchases of each product that has enough units for all that are granted. A product is
/// left out, and nothing of it is changed, if its fence is not below the token or changes meanwhile, or
/// if too few units are left.
///
/// All is read from one snapshot. A statement that waited for another transaction sees what that one
/// changed in `stock`, though not its orders; whoever changes who has how many of a product, or uses a
/// key for it, moves its fence, so `fence = seen` refuses. A key that was used for another product
/// meanwhile violates the orders' constraint and undoes the statement, and so does every used key that is
/// not looked up: without $12, only keys of buyers at their limit are.
///
/// Each part has one plan only, whatever the planner thinks of the tables: `OFFSET 0` makes the
/// look-ups loops over an index, and a product's purchases are slices of the arrays, not a join.
macro_rules! sell_at_once {
    ($units_of_the_buyer:literal, $looks_up_key:literal) => {
        concat!(
            "WITH demand AS MATERIALIZED (\
               SELECT number, product_id, fence AS seen, fence = known_fence AS is_known, \
                 max_per_buyer, coalesce(price, 0) AS unit_price, currency, first, last \
               FROM unnest($1::TEXT[], $2::BIGINT[], $3::INT[], $4::INT[], $5::BOOLEAN[], \
                 $10::BIGINT[]) WITH ORDINALITY \
                 AS asked (product, token, first, last, is_simple, known_fence, number) \
               JOIN stock ON product_id = product JOIN products ON products.id = product \
               WHERE fence < token AND deleted_at IS NULL \
                 AND (is_simple OR max_per_buyer IS NULL)), \
             judged AS MATERIALIZED (\
               SELECT number, seen, max_per_buyer, demand.unit_price, demand.currency, wanted.place + first - 1 AS place, wanted.id, wanted.buyer, \
                 wanted.quantity, wanted.key, known.id AS known_id, \
                 known.product_id AS known_product, known.quantity AS known_quantity, lines, \
                 known.unit_price AS known_price, known.currency AS known_currency, \
                 units AS read_units, known.id IS NULL AND (max_per_buyer IS NULL OR \
                   coalesce(units, CASE WHEN is_known THEN known_units END, 0) + ",
            $units_of_the_buyer,
            " <= max_per_buyer) AS granted \
               FROM demand CROSS JOIN LATERAL \
                 unnest(($6::UUID[])[first:last], ($7::TEXT[])[first:last], \
                   ($8::BIGINT[])[first:last], ($9::TEXT[])[first:last], \
                   ($11::BIGINT[])[first:last]) WITH ORDINALITY \
                 AS wanted (id, buyer, quantity, key, known_units, place) \
               LEFT JOIN LATERAL (\
                 SELECT sum(o.quantity)::BIGINT AS units FROM orders o \
                 WHERE max_per_buyer IS NOT NULL AND NOT (is_known AND known_units IS NOT NULL) \
                   AND o.buyer = wanted.buyer \
                   AND o.product_id = demand.product_id AND ",
            sql::kept!(),
            ") had ON TRUE \
               LEFT JOIN LATERAL (\
                 SELECT o.id, o.product_id, o.quantity, o.unit_price, o.currency, \
                   (SELECT count(*) FROM orders l WHERE l.id = o.id) AS lines \
                 FROM orders o WHERE ($12 OR ",
            $looks_up_key,
            ") AND o.buyer = wanted.buyer AND o.idempotency_key = wanted.key \
                   AND o.line = 0 OFFSET 0) known ON TRUE), \
             taken AS (\
               UPDATE stock SET fence = ($2::BIGINT[])[number::INT], available = available - units \
               FROM (SELECT number, min(seen) AS seen, min(max_per_buyer) AS max_per_buyer, \
                       min(unit_price) AS unit_price, min(currency) AS currency, \
                       coalesce(sum(quantity) FILTER (WHERE granted), 0)::BIGINT AS units \
                     FROM judged GROUP BY number) decided \
               WHERE product_id = ($1::TEXT[])[number::INT] AND fence = seen AND available >= units \
                 AND deleted_at IS NULL \
               RETURNING number, available, CASE WHEN max_per_buyer IS NOT NULL THEN seen END AS seen, \
                 unit_price, currency), \
             sold AS (\
               INSERT INTO orders \
                 (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency) \
               SELECT id, ($1::TEXT[])[number::INT], buyer, quantity, key, ($2::BIGINT[])[number::INT], \
                 unit_price, currency \
               FROM judged WHERE granted AND number = ANY(ARRAY(SELECT number FROM taken)) \
               ORDER BY buyer, key) \
             SELECT number, available, seen, NULL::BIGINT AS place, FALSE AS granted, \
               NULL::BIGINT AS units, NULL::UUID AS known_id, NULL::TEXT AS known_product, \
               NULL::BIGINT AS known_quantity, NULL::BIGINT AS lines, unit_price, currency FROM taken \
             UNION ALL SELECT number, NULL, NULL, place, granted, read_units, known_id, \
               known_product, known_quantity, lines, known_price, known_currency FROM judged \
             WHERE (NOT granted OR read_units IS NOT NULL) \
               AND number = ANY(ARRAY(SELECT number FROM taken))"
        )
    };
}

/// No product has two purchases of one buyer.
pub(super) const SELL_AT_ONCE: &str = sell_at_once!(
    "wanted.quantity",
    "coalesce(units, CASE WHEN is_known THEN known_units END, 0) + wanted.quantity > max_per_buyer"
);

/// Counts the earlier purchases of a buyer in the batch as well. Those that repeat a known key take
/// nothing. If one is refused, so is every later one of the same quantity.
pub(super) const SELL_REPEATED_AT_ONCE: &str = sell_at_once!(
    "(sum(wanted.quantity) FILTER (WHERE known.id IS NULL) \
     OVER (PARTITION BY number, wanted.buyer ORDER BY wanted.place))::BIGINT",
    "TRUE"
);

/// Of a product that was taken: what is left, and if it has a limit the fence before. Of a purchase that
/// was not granted, or whose buyer has units that were read: its place.
#[derive(sqlx::FromRow)]
struct ResultRow {
    number: i64,
    available: Option<i64>,
    seen: Option<i64>,
    place: Option<i64>,
    granted: bool,
    /// Of the buyer, before the sale.
    units: Option<i64>,
    /// The order that has the key, and its parts.
    known_id: Option<Uuid>,
    known_product: Option<String>,
    known_quantity: Option<i64>,
    lines: Option<i64>,
    /// Of a unit: at a product that was taken its price, at a known order that of the order.
    unit_price: Option<i64>,
    currency: Option<String>,
}

impl ResultRow {
    /// Without buyer and key, which are those of the purchase.
    fn known_order(self) -> Option<Order> {
        let unit_price = self.price();
        Some(Order {
            id: self.known_id?,
            product_id: self.known_product?,
            buyer: String::new(),
            quantity: self.known_quantity?,
            idempotency_key: None,
            lines: self.lines?,
            unit_price,
        })
    }

    fn price(&self) -> Option<Price> {
        Price::of_columns(self.unit_price, self.currency.as_deref())
    }
}

/// The purchases of one demand as the statement gets them.
struct Asked<'a> {
    demand: &'a Demand<'a>,
    /// Where it stands among all demands.
    position: usize,
    orders: Vec<Order>,
    /// The order of each purchase: repetitions of a key share one.
    order_of: Vec<usize>,
    /// Whether a buyer has several orders.
    is_repeated: bool,
    /// Whether these are all of the same quantity.
    is_simple: bool,
}

impl<'a> Asked<'a> {
    /// `None` where a key stands for different purchases: that is for the rules to decide.
    fn new(position: usize, demand: &'a Demand<'a>, keys: &mut HashSet<Key<'a>>) -> Option<Self> {
        let mut orders: Vec<Order> = Vec::with_capacity(demand.purchases.len());
        let mut order_of = Vec::with_capacity(demand.purchases.len());
        let mut of_key: HashMap<Key<'_>, usize> = HashMap::new();
        let mut quantity_of: HashMap<&str, i64> = HashMap::new();
        let (mut is_repeated, mut is_simple) = (false, true);
        for purchase in &demand.purchases {
            if let Some(key) = &purchase.idempotency_key {
                let key = (purchase.buyer.as_str(), key.as_str());
                if keys.contains(&key) {
                    return None;
                }
                if let Some(&same) = of_key.get(&key) {
                    if orders[same].quantity != purchase.quantity {
                        return None;
                    }
                    order_of.push(same);
                    continue;
                }
                of_key.insert(key, orders.len());
            }
            if let Some(quantity) = quantity_of.insert(&purchase.buyer, purchase.quantity) {
                is_repeated = true;
                is_simple &= quantity == purchase.quantity;
            }
            order_of.push(orders.len());
            orders.push(purchase.order(demand.product_id));
        }
        keys.extend(of_key.into_keys());
        Some(Self { demand, position, orders, order_of, is_repeated, is_simple })
    }

    /// What the statement answered, for each purchase in its order.
    fn outcomes(
        self,
        mut refused: HashMap<usize, Option<Order>>,
        unit_price: Option<Price>,
    ) -> Vec<Outcome> {
        let Self { demand, orders, order_of, .. } = self;
        let (product_id, mut outcomes) = (demand.product_id, Vec::with_capacity(orders.len()));
        for (index, order) in orders.into_iter().enumerate() {
            outcomes.push(match refused.remove(&index) {
                None => Outcome::Sold(Order { unit_price, ..order }),
                Some(None) => Outcome::LimitReached,
                Some(Some(known)) => {
                    let Order { buyer, idempotency_key, quantity, .. } = order;
                    let known = Order { buyer, idempotency_key, ..known };
                    Outcome::of_existing(known, product_id, quantity)
                }
            });
        }
        if order_of.len() == outcomes.len() {
            return outcomes;
        }
        let mut seen = HashSet::new();
        let repeated = |outcome: &Outcome| match outcome {
            Outcome::Sold(order) => Outcome::Replayed(order.clone()),
            other => other.clone(),
        };
        let outcome = |order: usize| {
            let outcome = &outcomes[order];
            if seen.insert(order) { outcome.clone() } else { repeated(outcome) }
        };
        order_of.into_iter().map(outcome).collect()
    }
}

/// A buyer's idempotency key.
type Key<'a> = (&'a str, &'a str);

/// What the statement said about one product.
#[derive(Default)]
struct Said {
    available: Option<i64>,
    seen: Option<i64>,
    /// Of a unit.
    price: Option<Price>,
    /// Purchases that were not granted, and the orders that have their keys.
    refused: HashMap<usize, Option<Order>>,
    /// Units of buyers that were read.
    units: HashMap<usize, i64>,
}

/// `None` where the rules must decide.
pub(crate) async fn sell_at_once(
    pool: &PgPool,
    known: &KnownUnits,
    demands: &[Demand<'_>],
    looks_up_keys: bool,
) -> Result<Decided, LedgerError> {
    let mut decided: Decided = demands.iter().map(|_| None).collect();
    let mut keys = HashSet::new();
    let asked = demands.iter().enumerate();
    let asked: Vec<Asked<'_>> =
        asked.filter_map(|(position, demand)| Asked::new(position, demand, &mut keys)).collect();
    if asked.is_empty() {
        return Ok(decided);
    }
    let usable = |asked: &Asked<'_>| known.usable(asked.demand.product_id, &asked.orders);
    let usable: Vec<Usable> = asked.iter().map(usable).collect();
    let (rows, is_repeated) = write(pool, &asked, &usable, looks_up_keys).await?;
    let said = by_product(rows, &asked);
    for ((asked, said), usable) in asked.into_iter().zip(said).zip(usable) {
        let position = asked.position;
        decided[position] = match said.available {
            Some(available) => {
                if let Some(seen) = said.seen {
                    let is_known = seen == usable.fence;
                    let had = |(place, known): (usize, &Option<i64>)| {
                        let known = known.filter(|_| is_known);
                        said.units.get(&place).copied().or(known).unwrap_or(0)
                    };
                    let had = usable.units.iter().enumerate().map(had);
                    let granted = (0..).map(|place| !said.refused.contains_key(&place));
                    let orders = asked.orders.iter().zip(had).zip(granted);
                    let orders = orders.map(|((order, had), granted)| (order, had, granted));
                    known.sold(asked.demand, seen, orders);
                }
                let outcomes = asked.outcomes(said.refused, said.price);
                Some(Ok(Decision { outcomes, available }))
            }
            // The lost statement may have sold it.
            None if is_repeated => Some(Err(LedgerError::ConnectionLost)),
            None => None,
        };
    }
    Ok(decided)
}

fn by_product(rows: Vec<ResultRow>, asked: &[Asked<'_>]) -> Vec<Said> {
    let mut said: Vec<Said> = asked.iter().map(|_| Said::default()).collect();
    let mut begins = Vec::with_capacity(asked.len());
    let mut begin = 0;
    for asked in asked {
        begins.push(begin);
        begin += asked.orders.len();
    }
    for row in rows {
        let Some(number) = index(row.number).filter(|number| *number < said.len()) else {
            continue;
        };
        let of_this = &mut said[number];
        let place = row.place.and_then(index).and_then(|place| place.checked_sub(begins[number]));
        let Some(place) = place else {
            of_this.price = row.price();
            (of_this.available, of_this.seen) = (row.available, row.seen);
            continue;
        };
        of_this.units.extend(row.units.map(|units| (place, units)));
        if !row.granted {
            of_this.refused.insert(place, row.known_order());
        }
    }
    said
}

/// Sends the statement for all of these at once.
async fn write(
    pool: &PgPool,
    asked: &[Asked<'_>],
    usable: &[Usable],
    looks_up_keys: bool,
) -> Result<(Vec<ResultRow>, IsRepeated), LedgerError> {
    let products: Vec<&str> = asked.iter().map(|asked| asked.demand.product_id).collect();
    let tokens: Vec<i64> = asked.iter().map(|asked| asked.demand.token).collect();
    let simple: Vec<bool> = asked.iter().map(|asked| asked.is_simple).collect();
    let (mut first, mut last, mut end) = (Vec::new(), Vec::new(), 0);
    for asked in asked {
        first.push(end + 1);
        end += i32::try_from(asked.orders.len()).unwrap_or(i32::MAX);
        last.push(end);
    }
    let orders = asked.iter().flat_map(|asked| &asked.orders);
    let (ids, buyers, quantities, keys): Columns<'_> = orders.map(row).collect();
    let is_repeated = asked.iter().any(|asked| asked.is_repeated);
    let statement = if is_repeated { SELL_REPEATED_AT_ONCE } else { SELL_AT_ONCE };
    let fences: Vec<i64> = usable.iter().map(|usable| usable.fence).collect();
    let units: Vec<Option<i64>> = usable.iter().flat_map(|usable| &usable.units).copied().collect();
    let query = || {
        sqlx::query_as(statement)
            .bind(&products)
            .bind(&tokens)
            .bind(&first)
            .bind(&last)
            .bind(&simple)
            .bind(&ids)
            .bind(&buyers)
            .bind(&quantities)
            .bind(&keys)
            .bind(&fences)
            .bind(&units)
            .bind(looks_up_keys)
    };
    fetch(pool, query).await
}

/// PostgreSQL counts from 1.
fn index(number: i64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}
