//! HTTP/1.1 over TCP or TLS. A connection belongs to its caller: nothing is pooled, queued or sent again unseen, so the
//! time of a call is what the caller measures around it. It is written for many small calls: no task, no channel and no
//! map of headers for a connection.

mod answer;
mod authorities;
mod call;
mod connection;
mod server;
mod stream;

pub use authorities::Authorities;
pub use call::{Answer, Call, Caller, HttpError};
pub use connection::Connection;
pub use server::{Opening, Server};
