//! Pages of other origins.

use axum::http::{HeaderValue, Uri};

use super::source::{ConfigError, Source};
use super::values::wrong;
use crate::api::AllowedOrigins;

/// Reads `CORS_ALLOWED_ORIGINS`; `None`: only the sale's own pages call it.
pub(super) fn read(source: &impl Source) -> Result<Option<AllowedOrigins>, ConfigError> {
    const NAME: &str = "CORS_ALLOWED_ORIGINS";
    let text = source.get(NAME).unwrap_or_default();
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
            let like = "https://shop.example or http://localhost:3000, without a path; * is all";
            wrong(NAME, format!("{text:?} is not an origin like {like}"))
        })
    });
    Ok(Some(AllowedOrigins::Listed(origins.collect::<Result<_, _>>()?)))
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

    struct Setting(&'static str, &'static str);

    impl Source for Setting {
        fn get(&self, name: &str) -> Option<String> {
            (self.0 == name).then(|| self.1.to_owned())
        }
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let read = |value| read(&Setting("CORS_ALLOWED_ORIGINS", value));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read(" , ").unwrap(), None);
        for any in ["*", "https://shop.example, *"] {
            assert_eq!(read(any).unwrap(), Some(AllowedOrigins::Any));
        }
        let listed = ["https://shop.example", "http://localhost:3000", "http://[::1]:3000"];
        let listed = AllowedOrigins::Listed(listed.map(HeaderValue::from_static).into());
        let text = "https://Shop.example:443, http://localhost:3000,http://[::1]:3000\n";
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
