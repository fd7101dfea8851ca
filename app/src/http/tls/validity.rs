//! The end of a certificate's validity (RFC 5280, section 4.1). Reads nothing else of the certificate, and verifies
//! nothing.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Tag of the optional field `version`.
const VERSION: u8 = 0xa0;

/// The field `notAfter` of a DER certificate; `None`: it is malformed.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    moment(tag, std::str::from_utf8(time).ok()?)
}

/// Tag and content of the first DER element, and the bytes behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        // A certificate has no element of 4 GiB.
        let bytes = (1..=4).contains(&bytes.len()).then_some(bytes)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn moment(tag: u8, text: &str) -> Option<Timestamp> {
    let century = match tag {
        UTC_TIME if text < "50" => "20",
        UTC_TIME => "19",
        GENERALIZED_TIME => "",
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", format!("{century}{text}")).ok()?;
    // 99991231235959Z means that there is no end, and is later than the last timestamp.
    Some(TimeZone::UTC.to_timestamp(time).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }

    fn certificate(version: &[u8], tag: u8, end: &str) -> Vec<u8> {
        let validity = [der(UTC_TIME, b"200101000000Z"), der(tag, end.as_bytes())].concat();
        let fields =
            [version, &[2, 1, 7], &[0x30, 0], &der(0x30, &[0; 300]), &der(0x30, &validity)];
        der(0x30, &der(0x30, &fields.concat()))
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let version = [VERSION, 3, 2, 1, 2];
        for (tag, end, expected) in [
            (UTC_TIME, "261128235959Z", "2026-11-28T23:59:59Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (UTC_TIME, "500101000000Z", "1950-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
        ] {
            for version in [&version[..], &[]] {
                let found = not_after(&certificate(version, tag, end));
                assert_eq!(found, Some(expected.parse().unwrap()), "{end}");
            }
        }
        let endless = certificate(&version, GENERALIZED_TIME, "99991231235959Z");
        assert_eq!(not_after(&endless), Some(Timestamp::MAX));
    }

    #[test]
    fn a_malformed_certificate_has_no_end() {
        let whole = certificate(&[], UTC_TIME, "261128235959Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length} bytes");
        }
        for (tag, end) in
            [(UTC_TIME, "tomorrow"), (UTC_TIME, "261128235959+0100"), (2, "261128235959Z")]
        {
            assert_eq!(not_after(&certificate(&[], tag, end)), None, "{end}");
        }
        assert_eq!(not_after(&[0x30, 0x80]), None, "no definite length");
        assert_eq!(not_after(&[0x30, 0x85, 1, 0, 0, 0, 0]), None, "longer than any certificate");
    }
}
