//! Extractors for handlers: the token, the parameter of the path, the client's address.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, request};
use ledger::Applicant;

use super::state::AppState;
use crate::auth::{Claims, Role, TokenError, person};
use crate::client_address::client_address;
use crate::http::problem::ApiError;
use crate::http::server::Peer;

/// The claims of the request's token.
#[derive(Debug)]
pub struct Authenticated(pub Claims);

impl FromRequestParts<AppState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let claims = state.tokens.verify(bearer_token(&parts.headers)?)?;
        if state.erasures.contains(&claims.sub) {
            return Err(TokenError::Erased.into());
        }
        Ok(Self(claims))
    }
}

/// A caller who buys, and whose limit that counts for.
#[derive(Debug)]
pub(crate) struct Buyer {
    /// The caller's name, and the person's limit key where the sale limits by a claim that the token has.
    pub(crate) applicant: Applicant,
    /// The claim by which the sale limits buyers, if the token lacks it.
    pub(crate) missing: Option<String>,
}

impl FromRequestParts<AppState> for Buyer {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let Authenticated(claims) = Authenticated::from_request_parts(parts, state).await?;
        let (mut limit_key, mut missing) = (None, None);
        if let Some(limit_by) = state.sale.catalog().limit_by() {
            match person(bearer_token(&parts.headers)?, &limit_by.claim) {
                Some(person) => limit_key = Some(limit_by.key(&person)),
                None => missing = Some(limit_by.claim.clone()),
            }
        }
        Ok(Self { applicant: Applicant { buyer: claims.sub, limit_key }, missing })
    }
}

/// The token of the header `Authorization: Bearer <token>`.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let header = headers.get(AUTHORIZATION).ok_or(ApiError::MissingToken)?;
    let (scheme, token) = header
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or(ApiError::MissingToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::MissingToken);
    }
    Ok(token.trim())
}

/// The claims of an administrator's token.
#[derive(Debug)]
pub struct Admin(pub Claims);

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, ApiError> {
        let Authenticated(claims) = Authenticated::from_request_parts(parts, state).await?;
        match claims.role {
            Role::Admin => Ok(Self(claims)),
            Role::Buyer => Err(ApiError::Forbidden),
        }
    }
}

/// The id in the path of a request, decoded.
#[derive(Debug)]
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let Path(id) = Path::from_request_parts(parts, state).await?;
        Ok(Self(id))
    }
}

/// The client's address: that of the connection, or the one that the trusted proxies report.
#[derive(Debug)]
pub(crate) struct ClientAddress(pub IpAddr);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut request::Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        // Absent only where a test calls the router directly.
        let peer = parts.extensions.get::<Peer>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip());
        Ok(Self(client_address(peer, &parts.headers, state.trusted_proxies)))
    }
}
