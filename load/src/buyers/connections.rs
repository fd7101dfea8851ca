//! The connections of the users: one for each, as a crowd has, or some that all share, as behind a proxy of a shop.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::Connection;

/// How users get their connections.
pub struct Connections {
    shared: Option<Shared>,
}

struct Shared {
    /// One for each request at a time.
    permits: Arc<Semaphore>,
    /// Unused ones, by server.
    idle: Vec<Mutex<Vec<Connection>>>,
}

/// The right to send a request.
pub struct Turn(Option<OwnedSemaphorePermit>);

impl Connections {
    /// At most `shared` connections for all users; `None`: each user has one of its own.
    pub fn new(shared: Option<u32>, servers: usize) -> Self {
        let shared = shared.map(|connections| Shared {
            permits: Arc::new(Semaphore::new(connections as usize)),
            idle: (0..servers).map(|_| Mutex::default()).collect(),
        });
        Self { shared }
    }

    /// Whether all users share them.
    pub fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Waits until a request may be sent.
    pub async fn turn(&self) -> Turn {
        match &self.shared {
            None => Turn(None),
            // Nobody closes the semaphore.
            Some(shared) => Turn(Arc::clone(&shared.permits).acquire_owned().await.ok()),
        }
    }

    /// An unused shared connection to this server.
    pub fn take(&self, server: usize) -> Option<Connection> {
        let idle = self.shared.as_ref()?.idle.get(server)?;
        idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Gives a shared connection back; a user's own one is returned.
    pub fn put(&self, server: usize, connection: Connection, turn: Turn) -> Option<Connection> {
        let Some(idle) = self.shared.as_ref().and_then(|shared| shared.idle.get(server)) else {
            return Some(connection);
        };
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        drop(turn.0);
        None
    }
}
