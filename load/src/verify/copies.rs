//! Whether the copies of the stock on the nodes agree with the database, also while the sale goes on. Takes no client
//! and no clock.
//!
//! A purchase reaches the database and the nodes one after the other. So a copy that was read between two reads of the
//! database agrees if it lies between the values of these two and of the one before.

use std::collections::BTreeMap;

/// Reads of the database that are remembered.
const WINDOW: usize = 3;

/// A node's copy of a product's stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// It agreed with the database once
    Agrees,
    /// The last value did not agree
    Differs(i64),
    /// The node has no value
    Missing,
    /// The node could not be read
    Unread(String),
}

/// The value of one read, or the error.
pub type Sample = Result<Option<i64>, String>;

/// What is known about the copies of all products.
#[derive(Debug, Default)]
pub struct Copies {
    products: BTreeMap<String, Product>,
}

#[derive(Debug, Default)]
struct Product {
    /// The last values in the database.
    values: Vec<i64>,
    /// Values that were read since then.
    samples: BTreeMap<String, Sample>,
    nodes: BTreeMap<String, Copy>,
}

impl Copies {
    /// Takes a read of the database, and decides on the samples before it.
    pub fn database(&mut self, on_sale: &BTreeMap<String, i64>) {
        // A product that was deleted meanwhile has no copies.
        self.products.retain(|product, _| on_sale.contains_key(product));
        for (id, value) in on_sale {
            let product = self.products.entry(id.clone()).or_default();
            product.values.push(*value);
            let superfluous = product.values.len().saturating_sub(WINDOW);
            product.values.drain(..superfluous);
            product.decide();
        }
    }

    /// Takes a read of a node. It counts with the next read of the database.
    pub fn node(&mut self, product: &str, node: &str, sample: Sample) {
        if let Some(product) = self.products.get_mut(product) {
            product.samples.insert(node.to_owned(), sample);
        }
    }

    /// Products with a copy that did not agree yet.
    pub fn open(&self) -> Vec<String> {
        let open = self.products.iter().filter(|(_, product)| !product.agrees());
        open.map(|(id, _)| id.clone()).collect()
    }

    /// The result, by node and product.
    #[must_use]
    pub fn by_node(self) -> BTreeMap<String, BTreeMap<String, Copy>> {
        let mut nodes: BTreeMap<String, BTreeMap<String, Copy>> = BTreeMap::new();
        for (id, product) in self.products {
            for (node, copy) in product.nodes {
                nodes.entry(node).or_default().insert(id.clone(), copy);
            }
        }
        nodes
    }
}

impl Product {
    fn decide(&mut self) {
        for (node, sample) in std::mem::take(&mut self.samples) {
            if self.nodes.get(&node) == Some(&Copy::Agrees) {
                continue;
            }
            let low = self.values.iter().min().copied().unwrap_or_default();
            let high = self.values.iter().max().copied().unwrap_or_default();
            let copy = match sample {
                Ok(Some(value)) if (low..=high).contains(&value) => Copy::Agrees,
                Ok(Some(value)) => Copy::Differs(value),
                Ok(None) => Copy::Missing,
                Err(error) => Copy::Unread(error),
            };
            self.nodes.insert(node, copy);
        }
    }

    fn agrees(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.values().all(|copy| *copy == Copy::Agrees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_sale(value: i64) -> BTreeMap<String, i64> {
        [("1".to_owned(), value)].into()
    }

    /// The copy after reads of the database with a sample after each.
    fn copy(reads: &[(i64, Sample)], last: i64) -> Copy {
        let mut copies = Copies::default();
        for (value, sample) in reads {
            copies.database(&on_sale(*value));
            copies.node("1", "n", sample.clone());
        }
        copies.database(&on_sale(last));
        copies.by_node()["n"]["1"].clone()
    }

    #[test]
    fn a_resting_sale_has_equal_copies() {
        assert_eq!(copy(&[(5, Ok(Some(5)))], 5), Copy::Agrees);
        assert_eq!(copy(&[(5, Ok(Some(4)))], 5), Copy::Differs(4));
        assert_eq!(copy(&[(5, Ok(Some(6))), (5, Ok(Some(6)))], 5), Copy::Differs(6));
        assert_eq!(copy(&[(5, Ok(None))], 5), Copy::Missing);
        assert_eq!(copy(&[(5, Err("away".to_owned()))], 5), Copy::Unread("away".to_owned()));
    }

    #[test]
    fn a_copy_may_be_behind_or_ahead_while_units_are_sold() {
        // Ahead: the database follows (strategy Atomic).
        assert_eq!(copy(&[(50, Ok(Some(45)))], 40), Copy::Agrees);
        // Behind: the release of the batch before is still on its way.
        assert_eq!(copy(&[(60, Ok(Some(65))), (50, Ok(Some(52)))], 40), Copy::Agrees);
        assert_eq!(copy(&[(50, Ok(Some(90)))], 40), Copy::Differs(90));
        // Values of long ago do not explain a copy.
        let stuck = || Ok(Some(100));
        let reads = [(99, stuck()), (80, stuck()), (70, stuck()), (60, stuck()), (50, stuck())];
        assert_eq!(copy(&reads, 40), Copy::Differs(100));
    }

    #[test]
    fn one_agreement_is_enough_and_products_without_one_are_open() {
        let mut copies = Copies::default();
        copies.database(&on_sale(5));
        assert_eq!(copies.open(), ["1"]);
        copies.node("1", "n", Ok(Some(5)));
        copies.database(&on_sale(5));
        assert!(copies.open().is_empty());
        copies.node("1", "n", Ok(Some(6)));
        copies.database(&on_sale(5));
        assert_eq!(copies.by_node()["n"]["1"], Copy::Agrees);
    }
}
