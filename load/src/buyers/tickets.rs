//! The ticket counters of a lock on the Redis nodes: they tell from outside who asked first.

use futures::future::join_all;
use redis::aio::MultiplexedConnection;

use crate::buyers::arrivals::Tickets;

/// The counter of one lock on each node.
pub struct NodeTickets {
    key: String,
    nodes: Vec<(MultiplexedConnection, u64)>,
}

impl NodeTickets {
    /// The counter of a product's lock.
    pub fn new(product: &str, nodes: Vec<MultiplexedConnection>) -> Self {
        let nodes = nodes.into_iter().map(|node| (node, 0)).collect();
        Self { key: format!("ticket:stock:{product}"), nodes }
    }

    async fn read(&mut self) -> Vec<Option<u64>> {
        let key = &self.key;
        join_all(self.nodes.iter_mut().map(async |(node, _)| {
            let ticket: Option<u64> = redis::cmd("GET").arg(key).query_async(node).await.ok()?;
            Some(ticket.unwrap_or_default())
        }))
        .await
    }
}

impl Tickets for NodeTickets {
    async fn mark(&mut self) {
        let now = self.read().await;
        for ((_, marked), ticket) in self.nodes.iter_mut().zip(now) {
            *marked = ticket.unwrap_or(*marked);
        }
    }

    async fn another(&mut self) -> bool {
        let now = self.read().await;
        let marked = self.nodes.iter().map(|(_, marked)| *marked);
        let grown =
            now.iter().zip(marked).filter(|(now, marked)| now.is_some_and(|now| now > *marked));
        grown.count() > self.nodes.len() / 2
    }
}
