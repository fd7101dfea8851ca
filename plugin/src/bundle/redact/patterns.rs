//! What looks like a secret, whatever its value: passwords in URIs, tokens, private keys, assignments.

/// Replaces a secret that is not known by its Secret.
const REDACTED: &str = "<redacted>";
/// Ends of names whose values are secrets.
const SECRET_NAMES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "secret_key",
    "private_key",
    "access_key",
    "authorization",
    "credentials",
    "_secret",
];
/// Values that are settings.
const HARMLESS: [&str; 3] = ["true", "false", "null"];
/// Shorter values after `Bearer` are words.
const MIN_TOKEN: usize = 8;
/// Shorter texts that begin like a JWT are none.
const MIN_JWT: usize = 20;

/// Whether the value of a variable or a field with this name is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    // A path is no secret, and is needed to understand a pod.
    let harmless = name.ends_with("_file") || name.ends_with("checksum");
    !harmless && SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The text without them.
pub fn without_secrets(text: &str) -> String {
    let text = private_keys(text);
    let text = uris(&text);
    let text = tokens(&text);
    assignments(&text)
}

/// From the first line of a private key to its last; without a last line, all that follows.
fn private_keys(text: &str) -> String {
    let (mut rest, mut out) = (text, String::new());
    while let Some(begin) = rest.find("-----BEGIN ") {
        let (before, from) = rest.split_at(begin);
        out.push_str(before);
        let title = from["-----BEGIN ".len()..].split("-----").next().unwrap_or_default();
        if !title.ends_with("PRIVATE KEY") {
            let (shown, after) = from.split_at("-----BEGIN ".len());
            out.push_str(shown);
            rest = after;
            continue;
        }
        out.push_str("<redacted private key>");
        let end = format!("-----END {title}-----");
        rest = from.find(&end).map_or("", |at| &from[at + end.len()..]);
    }
    out + rest
}

/// `scheme://user:password@host`.
fn uris(text: &str) -> String {
    let (mut rest, mut out) = (text, String::new());
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>\\`|,;".contains(c));
        let (uri, following) = after.split_at(end.unwrap_or(after.len()));
        let user = uri.rsplit_once('@').and_then(|(info, host)| {
            let (user, _) = info.split_once(':')?;
            Some((user, host))
        });
        match user {
            Some((user, host)) => out.extend([user, ":", REDACTED, "@", host]),
            None => out.push_str(uri),
        }
        rest = following;
    }
    out + rest
}

/// `Bearer TOKEN`, `Basic TOKEN`, and JWTs wherever they are.
fn tokens(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut after_scheme = false;
    while !rest.is_empty() {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.~+/=".contains(c);
        let length = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let is_jwt =
            word.starts_with("eyJ") && word.len() >= MIN_JWT && word.matches('.').count() >= 2;
        let is_secret = is_jwt || (after_scheme && word.len() >= MIN_TOKEN);
        out.push_str(if is_secret { REDACTED } else { word });
        let scheme = ["bearer", "basic"].iter().any(|it| word.eq_ignore_ascii_case(it));
        let next = after.chars().next();
        after_scheme = scheme && next == Some(' ');
        if let Some(next) = next {
            out.push(next);
            rest = &after[next.len_utf8()..];
        } else {
            rest = "";
        }
    }
    out
}

/// `password=...`, `"apiKey": "..."`. Numbers stay: a fencing token is one.
fn assignments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let start = rest.find(is_name).unwrap_or(rest.len());
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let length = from.find(|c| !is_name(c)).unwrap_or(from.len());
        let (name, after) = from.split_at(length);
        out.push_str(name);
        rest = after;
        if !is_secret_name(name) {
            continue;
        }
        let is_flag = name.starts_with("--");
        if let Some((sign, value, following)) = assigned(after, is_flag)
            && !value.is_empty()
            && !HARMLESS.contains(&value)
            && !value.chars().all(|c| c.is_ascii_digit())
            && !value.starts_with('<')
        {
            out.push_str(sign);
            out.push_str(REDACTED);
            rest = following;
        }
    }
    out
}

/// The sign of an assignment with its quotes, the value, and what follows.
fn assigned(text: &str, is_flag: bool) -> Option<(&str, &str, &str)> {
    let is_sign = |c: char| "\"'\\=: ".contains(c);
    let length = text.find(|c| !is_sign(c))?;
    let (sign, after) = text.split_at(length);
    let assigns = sign.contains(['=', ':']) || (is_flag && sign == " ");
    if !assigns {
        return None;
    }
    let quoted = sign.ends_with(['"', '\'']);
    let is_end = |c: char| {
        if quoted { "\"'\\".contains(c) } else { c.is_whitespace() || "\"',;&}])".contains(c) }
    };
    let end = after.find(is_end).unwrap_or(after.len());
    let (value, following) = after.split_at(end);
    Some((sign, value, following))
}
