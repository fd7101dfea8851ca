//! Who is behind the proxies: the address that limits count for.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// RFC 7239.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The address that the first of so many trusted proxies saw; without any, the connection's own.
///
/// Each trusted proxy adds one entry at the end of `X-Forwarded-For` or `Forwarded`, or of both.
/// Everything before those entries may be the client's invention, and so may the whole of a header
/// that the proxies do not write: where both are there, they must agree. If no address is found,
/// it is the connection's.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: usize) -> IpAddr {
    forwarded(headers, proxies).unwrap_or(peer).to_canonical()
}

/// What limits count as one: an address, or a subscriber's whole network of IPv6 (64 bits).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn forwarded(headers: &HeaderMap, proxies: usize) -> Option<IpAddr> {
    let from_the_end = proxies.checked_sub(1)?;
    let entry = |name, read: fn(&str) -> Option<IpAddr>| {
        let entry = entry_from_the_end(headers, name, from_the_end)?;
        read(entry.trim())
    };
    match (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
        (true, false) => entry(X_FORWARDED_FOR, node),
        (false, true) => entry(FORWARDED, forwarded_for),
        (true, true) => {
            let address = entry(X_FORWARDED_FOR, node)?;
            (entry(FORWARDED, forwarded_for)? == address).then_some(address)
        }
        (false, false) => None,
    }
}

/// One entry of a list that may be spread over several headers of this name.
fn entry_from_the_end(headers: &HeaderMap, name: HeaderName, position: usize) -> Option<String> {
    let mut left = position;
    for value in headers.get_all(name).iter().rev() {
        // What is not UTF-8 is still an entry, or a client could hide those after it.
        let value = String::from_utf8_lossy(value.as_bytes());
        for entry in unquoted_rsplit(&value, ',').filter(|entry| !entry.trim().is_empty()) {
            if left == 0 {
                return Some(entry.to_owned());
            }
            left -= 1;
        }
    }
    None
}

/// From the end, so that a quote a client left open before the proxies' entries hides none.
fn unquoted_rsplit(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.rsplit(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// The `for` of an element of `Forwarded`: `for="[2001:db8::1]:443";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    // No address needs an escape, and one would make the quotes ambiguous.
    if element.contains('\\') {
        return None;
    }
    let mut found = unquoted_rsplit(element, ';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    node(unquoted.unwrap_or(value))
}

/// An address with or without brackets, port and zone. Names (`unknown`, `_hidden`) are none.
fn node(text: &str) -> Option<IpAddr> {
    let host = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']')?;
            (port.is_empty() || port.starts_with(':')).then_some(host)?
        }
        // More colons than one: an IPv6 address as it is.
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn client(proxies: usize, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_address(PEER.parse().unwrap(), &map, proxies).to_string()
    }

    fn x_forwarded_for(value: &str) -> String {
        client(1, &[("x-forwarded-for", value)])
    }

    fn rfc_7239(value: &str) -> String {
        client(1, &[("forwarded", value)])
    }

    #[test]
    fn the_client_is_who_the_first_trusted_proxy_saw() {
        for [first, second] in [
            [("x-forwarded-for", "192.0.2.1, 192.0.2.2"), ("x-forwarded-for", "192.0.2.3")],
            [
                ("forwarded", "for=192.0.2.1, for=192.0.2.2;by=192.0.2.9"),
                ("forwarded", "For=\"192.0.2.3:80\""),
            ],
        ] {
            let seen = |proxies| client(proxies, &[first, second]);
            assert_eq!(seen(0), PEER, "without a trusted proxy the header is anybody's");
            assert_eq!(seen(1), "192.0.2.3");
            assert_eq!(seen(2), "192.0.2.2");
            assert_eq!(seen(9), PEER);
        }
        assert_eq!(client(1, &[]), PEER);
    }

    #[test]
    fn an_entry_may_have_a_port_brackets_and_a_zone() {
        for (entry, address) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
            ("fe80::1%25eth0", "fe80::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            ("192.0.2.1, , 203.0.113.7 ,", "203.0.113.7"),
            ("unknown", PEER),
            ("[2001:db8::1", PEER),
            ("[2001:db8::1]443", PEER),
            ("203.0.113.7:80:80", PEER),
            ("192.0.2.1, shop.example", PEER),
        ] {
            assert_eq!(x_forwarded_for(entry), address, "{entry}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (element, address) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("for=192.0.2.43:4711;proto=https", "192.0.2.43"),
            ("proto=http; FOR=\"[2001:db8:cafe::17]:4711\" ;by=203.0.113.43", "2001:db8:cafe::17"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"192.0.2.43:_port\"", "192.0.2.43"),
            ("for=192.0.2.1,for=192.0.2.43;host=\"a,b;for=192.0.2.9\"", "192.0.2.43"),
            // An open quote of the client's, before what the proxy adds.
            ("for=\"192.0.2.1, for=192.0.2.43", "192.0.2.43"),
            ("for=unknown", PEER),
            ("for=_hidden", PEER),
            ("proto=https;by=192.0.2.43", PEER),
            ("for=192.0.2.1;for=192.0.2.43", PEER),
            ("for=\"192.0.2.43", PEER),
            ("for=192.0.2.43;host=\"\\\",for=192.0.2.9,\\\"\"", PEER),
        ] {
            assert_eq!(rfc_7239(element), address, "{element}");
        }
    }

    #[test]
    fn a_header_that_no_proxy_wrote_makes_nobody_somebody_else() {
        let both = |x: &str, rfc: &str| client(1, &[("x-forwarded-for", x), ("forwarded", rfc)]);
        assert_eq!(both("203.0.113.7", "for=\"203.0.113.7:80\""), "203.0.113.7");
        assert_eq!(both("203.0.113.7", "for=198.51.100.9"), PEER);
        assert_eq!(both("203.0.113.7", "for=unknown"), PEER);
        assert_eq!(both("203.0.113.7", ""), PEER);
        // An entry that is not UTF-8 does not uncover the one before it.
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("198.51.100.9"));
        headers.append("x-forwarded-for", HeaderValue::from_bytes(b"\xff, 203.0.113.7").unwrap());
        let client = client_address(PEER.parse().unwrap(), &headers, 1);
        assert_eq!(client.to_string(), "203.0.113.7");
    }

    #[test]
    fn one_subscriber_is_one_address() {
        let network = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
