//! The proxy on the way to the API server, as kubectl chooses it.

use std::env;
use std::net::IpAddr;

use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Chooses the proxy: that of the kubeconfig, else that of `HTTPS_PROXY`, unless the API server is on this machine or
/// `NO_PROXY` names it.
///
/// kube 5.0.0 compares `NO_PROXY` with the proxy, not with the API server.
pub fn choose(config: &mut Config, of_kubeconfig: Option<String>) {
    let proxy = of_kubeconfig.or_else(|| {
        let exceptions = of_environment("NO_PROXY", "no_proxy").unwrap_or_default();
        of_environment("HTTPS_PROXY", "https_proxy").filter(|_| !is_exception(config, &exceptions))
    });
    // kube has refused one that is no URL.
    config.proxy_url = proxy.and_then(|proxy| url(&proxy).parse().ok());
}

/// With a scheme that kube knows. Its SOCKS proxies look names up themselves, as `socks5h` says.
fn url(proxy: &str) -> String {
    match proxy.split_once("://") {
        Some(("socks5h", host)) => format!("socks5://{host}"),
        Some(_) => proxy.to_owned(),
        None => format!("http://{proxy}"),
    }
}

/// `proxy-url` of the cluster that is used.
pub fn of_kubeconfig(kubeconfig: &Kubeconfig, options: &KubeConfigOptions) -> Option<String> {
    let name = options.context.as_ref().or(kubeconfig.current_context.as_ref())?;
    let context = kubeconfig.contexts.iter().find(|it| it.name == *name)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|it| it.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|proxy| !proxy.is_empty())
}

fn of_environment(name: &str, other: &str) -> Option<String> {
    [name, other].into_iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn is_exception(config: &Config, exceptions: &str) -> bool {
    let server = &config.cluster_url;
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_this_machine =
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let of_this_port =
        exceptions.split(',').filter_map(|exception| of_port(exception.trim(), server.port_u16()));
    let exceptions: Vec<&str> = of_this_port.collect();
    let matcher = Matcher::builder().all("http://proxy").no(exceptions.join(",")).build();
    is_this_machine || matcher.intercept(server).is_none()
}

/// An exception as the matcher takes it, `None` if it is for another port.
fn of_port(exception: &str, port: Option<u16>) -> Option<&str> {
    // More than one colon: an address of IPv6.
    let parts: Vec<&str> = exception.split(':').collect();
    let host = match parts[..] {
        [host, of] => of.parse().is_ok_and(|of: u16| port == Some(of)).then_some(host)?,
        _ => exception,
    };
    Some(host.strip_prefix('*').filter(|domain| domain.starts_with('.')).unwrap_or(host))
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
            ("https://api.shop.test:6443", "*.shop.test", true),
            ("https://api.shop.test:6443", "api.shop.test:6443", true),
            ("https://api.shop.test:6443", "api.shop.test:443", false),
            ("https://api.shop.test:6443", "*", true),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://10.1.2.3:6443", "10.0.0.0/8", true),
            ("https://11.1.2.3:6443", "10.0.0.0/8", false),
            ("https://127.0.0.1:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://localhost:6443", "", true),
        ] {
            let config = Config::new(server.parse().unwrap());
            assert_eq!(is_exception(&config, exceptions), expected, "{server} {exceptions}");
        }
    }
    #[test]
    fn a_proxy_has_a_scheme_that_kube_knows() {
        for (proxy, expected) in [
            ("proxy.test:3128", "http://proxy.test:3128"),
            ("http://ann:secret@proxy.test:3128", "http://ann:secret@proxy.test:3128"),
            ("socks5h://proxy.test:1080", "socks5://proxy.test:1080"),
        ] {
            assert_eq!(url(proxy), expected);
        }
    }
}
