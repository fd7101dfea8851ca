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
        of_environment("HTTPS_PROXY", "https_proxy").filter(|_| !is_exception(config, exceptions))
    });
    // kube has refused one that is no URL.
    config.proxy_url = proxy.and_then(|proxy| proxy.parse().ok());
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
