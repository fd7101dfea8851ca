//! A stream of NATS that gets events, as the settings have it.

use std::path::PathBuf;
use std::str::FromStr;

use async_nats::ConnectOptions;
use axum::http::uri::Authority;

/// Bytes of a name or a subject.
const LONGEST_NAME: usize = 255;
/// In a subject, the state that the order has come into.
const STATE: &str = "{state}";
/// Characters of the seed of a user's key, and the first two of them.
const SEED_LENGTH: usize = 58;
const SEED_PREFIX: &str = "SU";

/// A stream of NATS `JetStream`.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct NatsConfig {
    /// The servers, any of which may be connected to.
    pub servers: Vec<NatsServer>,
    /// What events are published to.
    pub subject: NatsSubject,
    /// The stream that must have the subject; `None`: any.
    pub stream: Option<StreamName>,
    /// How the sale logs in.
    pub login: NatsLogin,
    /// The states of orders that are sent; empty: all.
    pub states: Vec<String>,
    /// PEM file with authorities that are trusted beside the public ones.
    pub authorities: Option<PathBuf>,
}

/// How a server knows the sale.
// No `Debug`: it holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsLogin {
    /// It need not.
    None,
    /// A user and a password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of a user's key.
    Nkey(String),
    /// The text of a credentials file: a user's JWT and the seed of its key.
    Credentials(String),
}

impl NatsLogin {
    /// # Errors
    /// What is wrong with the seed.
    pub(crate) fn nkey(seed: &str) -> Result<Self, &'static str> {
        let seed = seed.trim();
        let is_seed = seed.len() == SEED_LENGTH
            && seed.starts_with(SEED_PREFIX)
            && seed.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
        is_seed
            .then(|| Self::Nkey(seed.to_owned()))
            .ok_or("must be the seed of a user's key: SU...")
    }

    /// # Errors
    /// What is wrong with the text of the file.
    pub(crate) fn credentials(file: &str) -> Result<Self, &'static str> {
        // The client wants a line end after the last line.
        let file = format!("{}\n", file.trim_end());
        match ConnectOptions::with_credentials(&file) {
            Ok(_) => Ok(Self::Credentials(file)),
            Err(_) => {
                Err("must be a credentials file of NATS: a user's JWT and the seed of its key")
            }
        }
    }
}

/// A `nats` or `tls` URL of a server, without user and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer(pub(super) String);

impl FromStr for NatsServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The text stays out of the message: a user in it has a password.
        let wrong = "must be URLs such as nats://nats.shop:4222, with nats or tls and without user and path";
        let text = text.trim();
        let (scheme, authority) = text.split_once("://").ok_or(wrong)?;
        let authority: Authority = authority.parse().map_err(|_| wrong)?;
        let has_port = authority.as_str() != authority.host();
        let is_valid = matches!(scheme, "nats" | "tls")
            && !authority.host().is_empty()
            && !authority.as_str().contains('@')
            // A port that is no port is not in `port_u16`.
            && has_port == authority.port_u16().is_some_and(|port| port > 0);
        is_valid.then(|| Self(text.to_owned())).ok_or(wrong)
    }
}

/// What events are published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsSubject(String);

impl NatsSubject {
    /// For an event of this state.
    pub(super) fn of(&self, state: &str) -> String {
        self.0.replace(STATE, state)
    }
}

impl FromStr for NatsSubject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token = |token: &str| token == STATE || is_name(token);
        let is_valid = text.len() <= LONGEST_NAME && text.split('.').all(is_token);
        is_valid.then(|| Self(text.to_owned())).ok_or(
            "must be letters, digits, - and _ in parts with full stops between them; a part can be {state}",
        )
    }
}

/// The name of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName(pub(super) String);

impl FromStr for StreamName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = text.len() <= LONGEST_NAME && is_name(text);
        is_valid.then(|| Self(text.to_owned())).ok_or("must be letters, digits, - and _")
    }
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_without_user_and_path() {
        for right in
            ["nats://a", "tls://nats.shop:4222", " nats://127.0.0.1:1\n", "tls://[::1]:65535"]
        {
            let server: NatsServer = right.parse().unwrap();
            assert!(server.0.parse::<async_nats::ServerAddr>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "a:4222",
            "nats://",
            "http://a",
            "wss://a",
            "nats://u:hunter2@a",
            "nats://a/b",
            "nats://a:0",
            "nats://a:65536",
            "nats://a:",
            "nats://a b",
        ] {
            assert!(wrong.parse::<NatsServer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subject_has_no_wildcards_and_may_have_the_state() {
        let subject: NatsSubject = "shop.orders.{state}".parse().unwrap();
        assert_eq!(subject.of("payment_failed"), "shop.orders.payment_failed");
        let long = "a".repeat(256);
        for wrong in
            ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "$JS.API", "a.{order}", &long]
        {
            assert!(wrong.parse::<NatsSubject>().is_err(), "{wrong}");
        }
        for wrong in ["", "a.b", "a b", "*", &long] {
            assert!(wrong.parse::<StreamName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_seed_is_that_of_a_user() {
        let seed = format!("SU{}", "A".repeat(56));
        assert!(NatsLogin::nkey(&format!("{seed}\n")).is_ok());
        for wrong in ["", "SUA", &seed.replace("SU", "SA"), &seed.replace("AA", "a1"), "hunter2"] {
            assert!(NatsLogin::nkey(wrong).is_err(), "{wrong}");
        }
        assert!(NatsLogin::credentials("hunter2").is_err());
    }
}
