//! Tokens, and proxies in front of the replicas.

use std::path::PathBuf;

use clap::Args;

use super::error::ConfigError;
use super::values::number;
use crate::auth::ProviderConfig;

/// The keys of tokens, and who is in front.
// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct AuthConfig {
    /// `JWT_SECRET`
    pub secret: String,
    /// `JWT_ACCEPTED_SECRET`
    pub accepted_secret: Option<String>,
    /// `JWKS_FILE`, `JWKS_ISSUER` and `JWKS_AUDIENCE`
    pub provider: Option<ProviderConfig>,
    /// `TRUSTED_PROXIES`
    pub trusted_proxies: usize,
    /// `OPERATOR_TOKEN`
    pub operator_token: Option<String>,
}

/// Settings of [`AuthConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
#[command(next_help_heading = "Authentication")]
pub struct AuthArgs {
    /// Key that signs tokens: at least 32 bytes, as made by `openssl rand -hex 32`.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_parser = secret)]
    jwt_secret: String,
    /// Second key whose tokens are accepted: the next or the previous one, while `JWT_SECRET` is replaced.
    #[arg(long, env = "JWT_ACCEPTED_SECRET", hide_env_values = true, value_parser = secret)]
    jwt_accepted_secret: Option<String>,
    /// File with the public keys of the shop's identity provider (JWKS with `EdDSA`, ES256 or RS256). It is read
    /// again when it changes.
    #[arg(long, env = "JWKS_FILE")]
    jwks_file: Option<PathBuf>,
    /// Required `iss` of the provider's tokens.
    #[arg(long, env = "JWKS_ISSUER")]
    jwks_issuer: Option<String>,
    /// Required `aud` of the provider's tokens.
    #[arg(long, env = "JWKS_AUDIENCE")]
    jwks_audience: Option<String>,
    /// Number of trusted proxies in front of each replica. The client address that limits log-ins, sign-ups and
    /// event listeners is that many entries from the right of `X-Forwarded-For` or `Forwarded`. 0: both headers
    /// are ignored.
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        default_value = "0",
        value_parser = number::<usize>(0..=10)
    )]
    trusted_proxies: usize,
    /// Token that the operator sends to read `/sale` on the port of metrics, at least 32 bytes. Default: none,
    /// `/sale` is refused.
    #[arg(long, env = "OPERATOR_TOKEN", hide_env_values = true, value_parser = secret)]
    operator_token: Option<String>,
}

impl TryFrom<AuthArgs> for AuthConfig {
    type Error = ConfigError;

    fn try_from(args: AuthArgs) -> Result<Self, ConfigError> {
        let (issuer, audience) = (args.jwks_issuer, args.jwks_audience);
        let needs_file = |name| Err(ConfigError::new(name, "needs JWKS_FILE"));
        let provider = match args.jwks_file {
            Some(file) => Some(ProviderConfig { file, issuer, audience }),
            None if issuer.is_some() => return needs_file("JWKS_ISSUER"),
            None if audience.is_some() => return needs_file("JWKS_AUDIENCE"),
            None => None,
        };
        Ok(Self {
            secret: args.jwt_secret,
            accepted_secret: args.jwt_accepted_secret,
            provider,
            trusted_proxies: args.trusted_proxies,
            operator_token: args.operator_token,
        })
    }
}

fn secret(text: &str) -> Result<String, &'static str> {
    if text.len() < 32 {
        return Err("has fewer than 32 bytes; make one with: openssl rand -hex 32");
    }
    Ok(text.to_owned())
}
