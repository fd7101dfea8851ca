//! Where connections lead.

use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::authorities::Authorities;
use super::call::{Answer, Call, Caller, HttpError};
use super::connection::Connection;
use super::stream::Stream;

/// The server of a base URL.
pub struct Server {
    host: String,
    port: u16,
    /// Value of the header `Host`.
    authority: String,
    /// The path of the base URL, without a slash at the end.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The addresses of the host, found once: a crowd would ask the cluster's DNS several times for each buyer.
    addresses: OnceCell<Vec<SocketAddr>>,
}

/// What the opening of a connection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Until TCP was connected
    pub tcp: Duration,
    /// From then on until the TLS handshake was done; absent with plain HTTP
    pub tls: Option<Duration>,
}

impl Server {
    /// Does not connect yet.
    pub fn new(url: &str, authorities: &Authorities) -> Result<Self, HttpError> {
        let wrong = |problem: &str| HttpError::Url(format!("{url:?} {problem}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
        let (Some(scheme), Some(authority), Some(host)) =
            (uri.scheme_str(), uri.authority(), uri.host())
        else {
            return Err(wrong("is not a URL that starts with http:// or https://"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match scheme {
            "http" => (None, 80),
            "https" => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| wrong("has no host that a certificate can name"))?;
                (Some((authorities.connector(), name)), 443)
            }
            _ => return Err(wrong("does not start with http:// or https://")),
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host,
            tls,
            addresses: OnceCell::new(),
        })
    }

    /// Looks the name up, unless that was done.
    pub async fn resolve(&self) -> Result<&[SocketAddr], HttpError> {
        let find = async || {
            let found = lookup_host((self.host.as_str(), self.port)).await?;
            Ok(found.collect())
        };
        let addresses = self.addresses.get_or_try_init(find).await.map_err(HttpError::Connect)?;
        Ok(addresses)
    }

    /// Opens a connection. The times do not include the look-up of the name.
    pub async fn connect(&self) -> Result<(Connection, Opening), HttpError> {
        let addresses = self.resolve().await?;
        let started = Instant::now();
        let stream = TcpStream::connect(addresses).await.map_err(HttpError::Connect)?;
        let tcp = started.elapsed();
        // A request is one packet.
        stream.set_nodelay(true).map_err(HttpError::Connect)?;
        // Buyers have addresses of their own. This process has one, whose 28,000 ports would stay occupied for a minute
        // each after a usual close.
        stream.set_zero_linger().map_err(HttpError::Connect)?;
        let Some((tls, name)) = &self.tls else {
            return Ok((Connection::over(Stream::Plain(stream)), Opening { tcp, tls: None }));
        };
        let started = Instant::now();
        let stream = tls.connect(name.clone(), stream).await.map_err(HttpError::Tls)?;
        let opening = Opening { tcp, tls: Some(started.elapsed()) };
        Ok((Connection::over(Stream::Tls(Box::new(stream))), opening))
    }

    /// Sends a request on a connection to this server, and reads the whole answer.
    pub async fn ask(
        &self,
        connection: &mut Connection,
        call: &Call,
        caller: Caller<'_>,
    ) -> Result<Answer, HttpError> {
        connection.call(&self.authority, &self.prefix, call, caller).await
    }

    /// One call on a connection of its own.
    pub async fn call(
        &self,
        call: &Call,
        caller: Caller<'_>,
        timeout: Duration,
    ) -> Result<Answer, HttpError> {
        let answer = async {
            let (mut connection, _) = self.connect().await?;
            self.ask(&mut connection, call, caller).await
        };
        tokio::time::timeout(timeout, answer).await.map_err(|_| HttpError::Timeout(timeout))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_port_a_prefix_and_a_host() {
        let public = Authorities::read(None).unwrap();
        let server = |url| Server::new(url, &public).map_err(|error| error.to_string());
        let plain = server("http://shop:8080/").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.prefix.as_str()), ("shop", 8080, ""));
        assert!(plain.tls.is_none());
        let tls = server("https://[::1]/a/b/").unwrap();
        assert_eq!((tls.host.as_str(), tls.port, tls.prefix.as_str()), ("::1", 443, "/a/b"));
        assert_eq!((tls.authority.as_str(), tls.tls.is_some()), ("[::1]", true));
        for wrong in ["shop", "ftp://shop", "http://", "https://a b"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once() {
        let public = Authorities::read(None).unwrap();
        let server = Server::new("http://localhost:1", &public).unwrap();
        let first = server.resolve().await.unwrap().as_ptr();
        assert_eq!(server.resolve().await.unwrap().as_ptr(), first);
        let missing = Server::new("http://no-such-host.invalid", &public).unwrap();
        assert!(missing.resolve().await.is_err());
    }
}
