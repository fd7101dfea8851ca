//! The client's address behind trusted proxies, which rate limits use.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// RFC 7239.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The address that the first of `trusted_proxies` proxies saw. Without proxies, or if the headers
/// have no such address, it is the connection's.
///
/// Each trusted proxy appends one entry to `X-Forwarded-For`, to `Forwarded` or to both. A client can
/// forge all entries before those, and a whole header that the proxies do not write. So if both
/// headers are present, they must agree.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: usize) -> IpAddr {
    forwarded(headers, trusted_proxies).unwrap_or(peer).to_canonical()
}

/// The unit of rate limits: an IPv4 address, or the IPv6 network of one subscriber (64 bits).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn forwarded(headers: &HeaderMap, trusted_proxies: usize) -> Option<IpAddr> {
    let position = trusted_proxies.checked_sub(1)?;
    let entry = |name, parse: fn(&str) -> Option<IpAddr>| {
        let entry = entry_from_the_end(headers, name, position)?;
        parse(entry.trim())
    };
    match (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
        (true, false) => entry(X_FORWARDED_FOR, node_address),
        (false, true) => entry(FORWARDED, forwarded_for),
        (true, true) => {
            let address = entry(X_FORWARDED_FOR, node_address)?;
            (entry(FORWARDED, forwarded_for)? == address).then_some(address)
        }
        (false, false) => None,
    }
}

/// The entry at this position from the end (0: the last) of a list that may span several headers.
fn entry_from_the_end(headers: &HeaderMap, name: HeaderName, position: usize) -> Option<String> {
    let mut left = position;
    for value in headers.get_all(name).iter().rev() {
        // An entry that is not UTF-8 counts too: otherwise the positions of the others would shift.
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

/// Splits at each separator outside quotes. It starts at the end: a quote that a client left open
/// cannot hide the entries that proxies appended.
fn unquoted_rsplit(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.rsplit(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// The address in `for` of one element of `Forwarded`: `for="[2001:db8::1]:443";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    // Addresses contain no escapes, and escapes would make quotes ambiguous.
    if element.contains('\\') {
        return None;
    }
    let mut found = unquoted_rsplit(element, ';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    node_address(unquoted.unwrap_or(value))
}

/// Parses an address with or without brackets, port and zone. Names (`unknown`, `_hidden`) are no
/// addresses.
fn node_address(text: &str) -> Option<IpAddr> {
    let host = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']')?;
            (port.is_empty() || port.starts_with(':')).then_some(host)?
        }
        // Several colons: an IPv6 address without brackets.
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
    fn the_client_is_the_address_that_the_first_trusted_proxy_saw() {
        for [first, second] in [
            [("x-forwarded-for", "192.0.2.1, 192.0.2.2"), ("x-forwarded-for", "192.0.2.3")],
            [
                ("forwarded", "for=192.0.2.1, for=192.0.2.2;by=192.0.2.9"),
                ("forwarded", "For=\"192.0.2.3:80\""),
            ],
        ] {
            let address = |proxies| client(proxies, &[first, second]);
            assert_eq!(address(0), PEER, "without trusted proxies the headers are ignored");
            assert_eq!(address(1), "192.0.2.3");
            assert_eq!(address(2), "192.0.2.2");
            assert_eq!(address(9), PEER);
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
    fn forwarded_is_parsed_as_in_rfc_7239() {
        for (element, address) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("for=192.0.2.43:4711;proto=https", "192.0.2.43"),
            ("proto=http; FOR=\"[2001:db8:cafe::17]:4711\" ;by=203.0.113.43", "2001:db8:cafe::17"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"192.0.2.43:_port\"", "192.0.2.43"),
            ("for=192.0.2.1,for=192.0.2.43;host=\"a,b;for=192.0.2.9\"", "192.0.2.43"),
            // The client left a quote open before the proxy's entry.
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
    fn a_forged_second_header_changes_no_address() {
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
    fn a_subscribers_ipv6_network_is_one_unit() {
        let network = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
