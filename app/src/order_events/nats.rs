//! Sends events to `JetStream`, which is NATS with streams on disk. The binding of `CloudEvents` to NATS is followed, in
//! the structured mode.

use std::io;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{ConnectOptions, Event, ServerAddr};
use axum::body::Bytes;
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::AttemptError;
use super::cloud_event::MEDIA_TYPE;
use super::nats_config::{NatsConfig, NatsLogin};
use super::tls::client_config;

/// How long the stream may take to acknowledge an event.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For one address of a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For all servers.
const CONNECT_ALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that does not answer three of them is lost.
const PING: Duration = Duration::from_secs(5);

/// A stream, and one connection to its servers.
pub(super) struct Nats {
    config: NatsConfig,
    tls: ClientConfig,
    servers: Vec<ServerAddr>,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Connection {
    open: Option<Session>,
    /// The last attempt to connect, if it failed.
    failed: Option<(Instant, AttemptError)>,
}

#[derive(Clone)]
struct Session {
    jetstream: Context,
    /// The connection was lost, and with it all answers that are awaited.
    lost: CancellationToken,
    /// The last error that the server sent outside of an answer, such as a missing permission.
    server_error: Arc<StdMutex<Option<String>>>,
}

impl Nats {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When the file with the authorities cannot be used.
    pub(super) fn new(config: NatsConfig) -> io::Result<Self> {
        let tls = client_config(config.authorities.as_deref())?;
        let servers = config.servers.iter().map(|server| server.0.parse());
        let servers = servers.collect::<io::Result<Vec<ServerAddr>>>()?;
        Ok(Self { config, tls, servers, connection: Mutex::default() })
    }

    /// Publishes an event, and waits until a stream has stored it. The stream drops an event whose id it has seen within
    /// its window of duplicates.
    pub(super) async fn send(
        &self,
        id: &str,
        state: &str,
        body: Bytes,
    ) -> Result<(), AttemptError> {
        let session = self.session().await?;
        let mut message =
            PublishMessage::build().payload(body).message_id(id).header("Content-Type", MEDIA_TYPE);
        if let Some(stream) = &self.config.stream {
            message = message.expected_stream(&stream.0);
        }
        let subject = self.config.subject.of(state);
        let published = async { session.jetstream.send_publish(subject, message).await?.await };
        let text = match session.lost.run_until_cancelled(published).await {
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => match error.kind() {
                PublishErrorKind::StreamNotFound => {
                    return Err(AttemptError::new("no stream has the subject"));
                }
                PublishErrorKind::TimedOut => format!("no acknowledgement within {TIMEOUT:?}"),
                _ => return Err(AttemptError::new(error.to_string())),
            },
            None => "the connection was lost".to_owned(),
        };
        let said = session.server_error.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(said) = said {
            return Err(AttemptError::new(format!("{text}; the server said: {said}")));
        }
        // Perhaps it is the connection that gives no answer.
        session.lost.cancel();
        Err(AttemptError::new(text))
    }

    /// The open connection, or a new one. Events that wait for the same attempt share its failure.
    async fn session(&self) -> Result<Session, AttemptError> {
        let asked = Instant::now();
        let mut connection = self.connection.lock().await;
        if let Some(session) = &connection.open
            && !session.lost.is_cancelled()
        {
            return Ok(session.clone());
        }
        if let Some((at, error)) = &connection.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        connection.open = None;
        match self.connect().await {
            Ok(session) => {
                connection.failed = None;
                connection.open = Some(session.clone());
                Ok(session)
            }
            Err(error) => {
                connection.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Session, AttemptError> {
        let server_error: Arc<StdMutex<Option<String>>> = Arc::default();
        let lost = CancellationToken::new();
        let (said, is_lost) = (Arc::clone(&server_error), lost.clone());
        let options = self.options().map_err(|error| AttemptError::of(&error))?.event_callback(
            move |event| {
                match event {
                    Event::ServerError(error) => {
                        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                        *said = Some(error.to_string());
                    }
                    // The client connects again, but what it waits for never comes.
                    Event::Disconnected | Event::Closed => is_lost.cancel(),
                    _ => {}
                }
                std::future::ready(())
            },
        );
        let connecting = timeout(CONNECT_ALL_TIMEOUT, options.connect(&self.servers)).await;
        let connected = connecting.map_err(|_| {
            AttemptError::new(format!("no connection within {CONNECT_ALL_TIMEOUT:?}"))
        })?;
        // The error's own text has its causes.
        let client =
            connected.map_err(|error| AttemptError::new(format!("cannot connect: {error}")))?;
        let jetstream = ContextBuilder::new().timeout(TIMEOUT).build(client);
        Ok(Session { jetstream, lost, server_error })
    }

    fn options(&self) -> io::Result<ConnectOptions> {
        let options = match &self.config.login {
            NatsLogin::None => ConnectOptions::new(),
            NatsLogin::Password { username, password } => {
                ConnectOptions::with_user_and_password(username.clone(), password.clone())
            }
            NatsLogin::Token(token) => ConnectOptions::with_token(token.clone()),
            NatsLogin::Nkey(seed) => ConnectOptions::with_nkey(seed.clone()),
            NatsLogin::Credentials(file) => ConnectOptions::with_credentials(file)?,
        };
        Ok(options
            .name("flashsale")
            .tls_client_config(self.tls.clone())
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING)
            // Each server once: another client takes the place of one that has lost its connection, so that the reason of
            // a failure is known.
            .max_reconnects(self.servers.len()))
    }
}
