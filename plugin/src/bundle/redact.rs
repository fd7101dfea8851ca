//! Removes secrets from texts and objects: known values in every form in which they may appear, and whatever looks like a
//! secret. Takes no client.

mod patterns;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use self::patterns::{is_secret_name, without_secrets};

/// Shorter values would be found in every text.
const MIN_LENGTH: usize = 4;
/// Lines of a longer value, such as a key, that are searched for by themselves.
const MIN_LINE: usize = 12;
/// Keys of Secrets whose values are no secrets.
const PUBLIC_KEYS: [&str; 15] = [
    "username",
    "user",
    "database",
    "dbname",
    "host",
    "port",
    "admin-id",
    "tls.crt",
    "ca.crt",
    "jwks.json",
    "jwks-issuer",
    "jwks-audience",
    "namespace",
    "type",
    "email",
];
/// Annotations that repeat whole objects.
const REPEATED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Knows values that must not appear.
#[derive(Default)]
pub struct Redactor {
    /// The longest first, because one may contain another.
    values: Vec<(String, String)>,
    /// Values that are too short to be searched for.
    pub too_short: Vec<String>,
}

impl Redactor {
    /// Takes the value of a Secret's key.
    pub fn secret(&mut self, secret: &str, key: &str, value: &[u8]) {
        if PUBLIC_KEYS.contains(&key) {
            return;
        }
        self.value(&format!("{secret}/{key}"), value);
        // Such as the passwords in .dockerconfigjson.
        if let Ok(json) = serde_json::from_slice::<Value>(value) {
            self.leaves(&format!("{secret}/{key}"), &json);
        }
    }

    fn leaves(&mut self, label: &str, json: &Value) {
        match json {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if !PUBLIC_KEYS.contains(&key.as_str()) => {
                            self.value(label, text.as_bytes());
                        }
                        other => self.leaves(label, other),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.leaves(label, item)),
            _ => {}
        }
    }

    /// Takes variables of pods whose names say that they are secrets.
    pub fn variables(&mut self, object: &Value) {
        visit_variables(object, &mut |name, value| {
            if is_secret_name(name) {
                self.value(name, value.as_bytes());
            }
        });
    }

    fn value(&mut self, label: &str, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.len() < MIN_LENGTH {
            if !text.is_empty() {
                self.too_short.push(label.to_owned());
            }
            return;
        }
        let mut forms = vec![text.to_owned(), percent_encoded(text), json_escaped(text)];
        for bytes in [value, text.as_bytes()] {
            for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                forms.push(engine.encode(bytes));
            }
        }
        if text.contains('\n') {
            forms.extend(text.lines().filter(|it| is_key_line(it)).map(str::to_owned));
        }
        if let Some(password) = password(text) {
            forms.extend([password.to_owned(), percent_decoded(password)]);
        }
        for form in forms.into_iter().filter(|form| form.len() >= MIN_LENGTH) {
            if self.values.iter().all(|(known, _)| *known != form) {
                self.values.push((form, label.to_owned()));
            }
        }
        self.values.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
    }

    /// A text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        without_secrets(&self.without_known(text))
    }

    fn without_known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (value, label) in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &format!("<redacted {label}>")));
            }
        }
        text
    }

    /// An object without secrets, and without what nobody reads.
    pub fn object(&self, object: &mut Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        self.walk(object);
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => {
                for item in items {
                    if let Some((name, _)) = variable(item)
                        && is_secret_name(name)
                    {
                        item["value"] = Value::String("<redacted>".to_owned());
                    }
                    self.walk(item);
                }
            }
            Value::Object(fields) => {
                fields.remove(REPEATED);
                let keys: Vec<String> = fields.keys().cloned().collect();
                for key in keys {
                    // A key may be a secret too, such as an annotation that somebody wrote.
                    let redacted = self.without_known(&key).into_owned();
                    if let Some(mut field) = fields.remove(&key) {
                        if field.is_string() && is_secret_name(&key) {
                            field = Value::String("<redacted>".to_owned());
                        }
                        self.walk(&mut field);
                        fields.insert(redacted, field);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Name and value of an item of a container's `env`.
fn variable(item: &Value) -> Option<(&str, &str)> {
    Some((item.get("name")?.as_str()?, item.get("value")?.as_str()?))
}

fn visit_variables(value: &Value, visit: &mut impl FnMut(&str, &str)) {
    match value {
        Value::Array(items) => {
            for item in items {
                if let Some((name, value)) = variable(item) {
                    visit(name, value);
                }
                visit_variables(item, visit);
            }
        }
        Value::Object(fields) => fields.values().for_each(|field| visit_variables(field, visit)),
        _ => {}
    }
}

fn is_key_line(line: &str) -> bool {
    line.len() >= MIN_LINE && !line.starts_with("-----")
}

/// The password in a connection URI.
fn password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// As it appears inside of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
#[path = "redact/tests.rs"]
mod tests;
