//! Which API servers the proxy of the environment is not for, as kubectl has it.

use std::env;
use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;

/// Takes the proxy of `HTTPS_PROXY` away if the API server is on this machine or `NO_PROXY` names it. A proxy of the
/// kubeconfig has no exceptions.
///
/// kube 5.0.0 compares `NO_PROXY` with the proxy, not with the API server.
pub fn keep_from_exceptions(config: &mut Config) {
    let Some(proxy) = of_environment("HTTPS_PROXY", "https_proxy") else { return };
    let is_of_environment = proxy.parse().ok() == config.proxy_url;
    let exceptions = of_environment("NO_PROXY", "no_proxy").unwrap_or_default();
    if is_of_environment && is_exception(config, exceptions) {
        config.proxy_url = None;
    }
}

fn of_environment(name: &str, other: &str) -> Option<String> {
    [name, other].into_iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn is_exception(config: &Config, exceptions: String) -> bool {
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_this_machine =
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let matcher = Matcher::builder().all("http://proxy").no(exceptions).build();
    is_this_machine || matcher.intercept(&config.cluster_url).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_name_hosts_domains_and_networks_of_the_api_server() {
        for (server, exceptions, expected) in [
            ("https://api.shop.test:6443", "", false),
            ("https://api.shop.test:6443", "proxy.test,10.0.0.0/8", false),
            ("https://api.shop.test:6443", "proxy.test, api.shop.test", true),
            ("https://api.shop.test:6443", ".shop.test", true),
            ("https://api.shop.test:6443", "shop.test", true),
            ("https://api.shop.test:6443", "*", true),
            ("https://10.1.2.3:6443", "10.0.0.0/8", true),
            ("https://11.1.2.3:6443", "10.0.0.0/8", false),
            ("https://127.0.0.1:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://localhost:6443", "", true),
        ] {
            let config = Config::new(server.parse().unwrap());
            assert_eq!(
                is_exception(&config, exceptions.to_owned()),
                expected,
                "{server} {exceptions}"
            );
        }
    }
}
