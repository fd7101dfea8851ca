//! The encoding of orders in Redis: under their idempotency keys, and in the entries of a stream.
//!
//! An entry has all orders of one call in the fields `version` (2), `incarnation`, `orders` and `price`: for
//! each order the field name and the value of its key, all separated by NUL; and the price of a unit, which an
//! entry of the release before lacks. Version 3 has a field `limits` too: the limit key of each order (empty: none).

use ledger::{Currency, DecidedOrder, Order, Price, SoldFor};
use redis::FromRedisValue;
use redis::streams::StreamId;
use uuid::Uuid;

/// The versions of entries that this replica can read.
const VERSIONS: [u32; 2] = [2, 3];

/// The field of an idempotency key in the hash of keys. A key has no spaces.
pub(crate) fn key_field(buyer: &str, key: &str) -> String {
    [key, " ", buyer].concat()
}

/// The value of a key's field: its order.
pub(crate) fn key_value(order_id: Uuid, product_id: &str, quantity: i64) -> String {
    let mut id = Uuid::encode_buffer();
    let id = order_id.hyphenated().encode_lower(&mut id);
    [id, " ", product_id, " ", &quantity.to_string()].concat()
}

/// The price of a unit in an entry.
pub(crate) fn price_value(price: Option<Price>) -> String {
    price.map_or_else(
        || "0".to_owned(),
        |Price { amount, currency }| [&amount.to_string(), " ", currency.code()].concat(),
    )
}

fn sold_for(text: Option<&str>) -> SoldFor {
    let read = |text: &str| {
        if text == "0" {
            return Some(SoldFor::Nothing);
        }
        let (amount, currency) = text.split_once(' ')?;
        let currency = Currency::of(currency)?;
        Some(SoldFor::Price(Price { amount: amount.parse().ok()?, currency }))
    };
    text.and_then(read).unwrap_or(SoldFor::Unknown)
}

/// The order in a key's value.
pub(crate) fn keyed_order(value: &str, buyer: &str, key: &str) -> Option<Order> {
    let mut parts = value.split(' ');
    Some(Order {
        id: parts.next()?.parse().ok()?,
        product_id: parts.next()?.to_owned(),
        buyer: buyer.to_owned(),
        quantity: parts.next()?.parse().ok()?,
        idempotency_key: Some(key.to_owned()),
        lines: 1,
        unit_price: None,
        limit_key: None,
    })
}

/// An entry of a stream. A malformed one has no orders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    /// The incarnation of the stock that sold them.
    pub(crate) incarnation: i64,
    pub(crate) orders: Vec<DecidedOrder>,
}

impl Entry {
    /// Decodes an entry. Err: the id of an entry that only a later version can read.
    pub(crate) fn read(entry: StreamId) -> Result<Self, String> {
        if field::<u32>(&entry, "version").is_some_and(|version| !VERSIONS.contains(&version)) {
            return Err(entry.id);
        }
        let (incarnation, orders) = read_orders(&entry).unwrap_or_default();
        Ok(Self { id: entry.id, incarnation, orders })
    }
}

fn field<T: FromRedisValue>(entry: &StreamId, name: &str) -> Option<T> {
    entry.get(name)
}

fn read_orders(entry: &StreamId) -> Option<(i64, Vec<DecidedOrder>)> {
    let text: String = field(entry, "orders")?;
    let sold_for = sold_for(field::<String>(entry, "price").as_deref());
    let limits: Option<String> = field(entry, "limits");
    let mut limits = limits.as_deref().map(|limits| limits.split('\0'));
    let mut parts = text.split('\0');
    let mut orders = Vec::new();
    while let Some(field) = parts.next() {
        let (key, buyer) = field.split_once(' ')?;
        let mut value = parts.next()?.split(' ');
        let (id, _product, quantity) = (value.next()?, value.next()?, value.next()?);
        let order = decided(id.parse().ok()?, buyer, quantity.parse().ok()?, key)?;
        let limit_key = match &mut limits {
            Some(limits) => Some(limits.next()?).filter(|key| !key.is_empty()).map(str::to_owned),
            None => None,
        };
        orders.push(DecidedOrder { sold_for, limit_key, ..order });
    }
    Some((field(entry, "incarnation")?, orders))
}

fn decided(id: Uuid, buyer: &str, quantity: i64, key: &str) -> Option<DecidedOrder> {
    let idempotency_key = Some(key).filter(|key| !key.is_empty()).map(str::to_owned);
    let (buyer, sold_for) = (buyer.to_owned(), SoldFor::Unknown);
    let order = DecidedOrder { id, buyer, quantity, idempotency_key, sold_for, limit_key: None };
    (quantity > 0).then_some(order)
}

/// Entries of one product and incarnation that the database has, or cannot take.
#[derive(Debug)]
pub(crate) struct RecordedEntries {
    pub(crate) product_id: String,
    pub(crate) incarnation: i64,
    pub(crate) entries: Vec<Entry>,
    /// The orders that it cannot take.
    pub(crate) refused: Vec<Uuid>,
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn entry(fields: &[(&str, &str)]) -> StreamId {
        let value = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let map = fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        StreamId { id: "1-0".to_owned(), map, ..StreamId::default() }
    }

    fn order(id: u128, buyer: &str, quantity: i64, key: Option<&str>) -> DecidedOrder {
        let (id, idempotency_key) = (Uuid::from_u128(id), key.map(str::to_owned));
        let (buyer, sold_for) = (buyer.to_owned(), SoldFor::Unknown);
        DecidedOrder { id, buyer, quantity, idempotency_key, sold_for, limit_key: None }
    }

    #[test]
    fn the_price_is_that_of_the_moment_of_the_sale() {
        let eur = Price { amount: 49_900, currency: Currency::of("EUR").unwrap() };
        assert_eq!(price_value(Some(eur)), "49900 EUR");
        assert_eq!(sold_for(Some("49900 EUR")), SoldFor::Price(eur));
        assert_eq!(sold_for(Some(&price_value(None))), SoldFor::Nothing);
        for unknown in [None, Some(""), Some("1"), Some("x EUR"), Some("1 ZZZ")] {
            assert_eq!(sold_for(unknown), SoldFor::Unknown, "{unknown:?}");
        }
        let value = key_value(Uuid::from_u128(1), "p", 3);
        let orders = ["k ann", &value].join("\0");
        let fields =
            [("version", "2"), ("incarnation", "7"), ("orders", &orders), ("price", "49900 EUR")];
        let read = Entry::read(entry(&fields)).unwrap();
        assert_eq!(read.orders[0].sold_for, SoldFor::Price(eur));
    }

    #[test]
    fn all_orders_of_a_call_are_read_from_its_entry() {
        let first = [key_field("ann b\n", "k"), key_value(Uuid::from_u128(1), "p", 3)];
        let second = [key_field("bob", ""), key_value(Uuid::from_u128(2), "p", 1)];
        let orders = [first, second].concat().join("\0");
        let read =
            Entry::read(entry(&[("version", "2"), ("incarnation", "7"), ("orders", &orders)]));
        let orders = vec![order(1, "ann b\n", 3, Some("k")), order(2, "bob", 1, None)];
        let expected = Entry { id: "1-0".to_owned(), incarnation: 7, orders };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn each_order_of_a_sale_that_limits_by_a_claim_has_its_limit_key() {
        let first = [key_field("ann", "k"), key_value(Uuid::from_u128(1), "p", 3)];
        let second = [key_field("bob", ""), key_value(Uuid::from_u128(2), "p", 1)];
        let orders = [first, second].concat().join("\0");
        let read = |limits: &str| {
            let fields =
                [("version", "3"), ("incarnation", "7"), ("orders", &*orders), ("limits", limits)];
            Entry::read(entry(&fields)).unwrap().orders
        };
        let limit_key = Some("limit:1".to_owned());
        let ann = DecidedOrder { limit_key, ..order(1, "ann", 3, Some("k")) };
        assert_eq!(read("limit:1\0"), [ann, order(2, "bob", 1, None)]);
        assert_eq!(read("limit:1"), [], "a limit key is missing");
    }

    #[test]
    fn an_entry_of_a_later_version_is_not_malformed() {
        let read = |fields: &[(&str, &str)]| Entry::read(entry(fields));
        assert_eq!(read(&[("version", "4"), ("incarnation", "7")]), Err("1-0".to_owned()));
        let malformed = Ok(Entry { id: "1-0".to_owned(), ..Entry::default() });
        assert_eq!(read(&[("incarnation", "7")]), malformed);
        let fields = [("version", "2"), ("incarnation", "7"), ("orders", "k ann\0x p 1")];
        assert_eq!(read(&fields), malformed);
    }
}
