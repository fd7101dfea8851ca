//! Pages of other origins.

use axum::http::{HeaderValue, Uri};
use clap::Args;

use super::error::ConfigError;
use crate::api::AllowedOrigins;

/// Settings of [`AllowedOrigins`].
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct CorsArgs {
    /// Origins whose pages may call the API, such as `https://shop.example`, separated by commas; `*` for all.
    /// Default: none.
    #[arg(long, env = "CORS_ALLOWED_ORIGINS")]
    cors_allowed_origins: Option<String>,
}

impl CorsArgs {
    /// `None`: only the sale's own pages call it.
    pub(super) fn into_config(self) -> Result<Option<AllowedOrigins>, ConfigError> {
        let text = self.cors_allowed_origins.unwrap_or_default();
        let origins: Vec<&str> =
            text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
        if origins.is_empty() {
            return Ok(None);
        }
        if origins.contains(&"*") {
            return Ok(Some(AllowedOrigins::Any));
        }
        let origins = origins.into_iter().map(|text| {
            origin(text).ok_or_else(|| {
                let like =
                    "https://shop.example or http://localhost:3000, without a path; * is all";
                let problem = format!("{text:?} is not an origin like {like}");
                ConfigError::new("CORS_ALLOWED_ORIGINS", problem)
            })
        });
        Ok(Some(AllowedOrigins::Listed(origins.collect::<Result<_, _>>()?)))
    }
}

/// An origin as browsers write it: in small letters, without the scheme's own port.
fn origin(text: &str) -> Option<HeaderValue> {
    let text = text.to_ascii_lowercase();
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    // Not more than these two: no name of a user, no path, not even a slash.
    let exact = text == format!("{scheme}://{authority}") && !authority.as_str().contains('@');
    let origin = text.strip_suffix(own_port).unwrap_or(&text);
    (exact && !authority.host().is_empty()).then(|| HeaderValue::from_str(origin).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let read =
            |value: &str| CorsArgs { cors_allowed_origins: Some(value.to_owned()) }.into_config();
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read(" , ").unwrap(), None);
        for any in ["*", "https://shop.example, *"] {
            assert_eq!(read(any).unwrap(), Some(AllowedOrigins::Any));
        }
        let listed = ["https://shop.example", "http://localhost:3000", "http://[::1]:3000"];
        let listed = AllowedOrigins::Listed(listed.map(HeaderValue::from_static).into());
        let text = "https://Shop.example:443, http://localhost:3000,http://[::1]:3000";
        assert_eq!(read(text).unwrap(), Some(listed));
        for wrong in [
            "shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://ann@shop.example",
            "ftp://shop.example",
            "https://",
            "null",
            "https://*.example/?",
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("CORS_ALLOWED_ORIGINS: "), "{wrong}: {error}");
        }
    }
}
