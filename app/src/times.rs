//! Times as others read them: texts of RFC 3339.

use jiff::Timestamp;
use uuid::Uuid;

/// From milliseconds since 1970.
pub(crate) fn rfc3339(millis: i64) -> Option<String> {
    Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}

/// The time of creation, which is a part of an id of version 7.
pub(crate) fn created_at(id: Uuid) -> Option<String> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let time = Timestamp::new(seconds.try_into().ok()?, nanos.try_into().ok()?).ok()?;
    Some(time.to_string())
}
