//! The API server, and what its errors mean for a person.

use std::path::PathBuf;

use anyhow::{Context, Error, Result, anyhow};
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};

use crate::proxy;

/// Where the sales are: as for kubectl.
#[derive(Args, Debug, Clone, Default)]
pub struct Target {
    /// Namespace (default: that of the context)
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig (default: the current one)
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Path of the kubeconfig (default: $KUBECONFIG, then ~/.kube/config)
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// A connection to the API server.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace of the command.
    pub namespace: String,
    /// How it was chosen, for commands that use kubectl.
    pub target: Target,
    config: Config,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub async fn of(target: &Target) -> Result<Self> {
        let (mut config, own_proxy) = configuration(target).await?;
        proxy::choose(&mut config, own_proxy);
        let namespace =
            target.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config.clone())
            .with_context(|| format!("the kubeconfig cannot be used for {}", config.cluster_url))?;
        Ok(Self { client, namespace, target: target.clone(), config })
    }

    /// A client for one `exec` or one forwarded port.
    ///
    /// The API server answers a refused upgrade, and then closes the connection. The pool of a client does not know
    /// that, so the next request of the same client can fail.
    pub fn upgrading(&self) -> Result<Client> {
        Ok(Client::try_from(self.config.clone())?)
    }

    /// Objects of the command's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of all namespaces.
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// An error of a request as a person needs it: what is wrong, and what to do.
    pub fn explain(&self, error: kube::Error) -> Error {
        match error {
            // A kind that does not exist is answered with plain text, a missing object is not.
            kube::Error::Api(status) if status.code == 404 && status.reason != "NotFound" => {
                anyhow!(
                    "the cluster {} does not know FlashSale: install the operator's chart (helm install \
                     flashsale-operator charts/flashsale-operator -n flashsale-system --create-namespace), or \
                     choose another cluster with --context",
                    self.config.cluster_url
                )
            }
            kube::Error::Api(status) if status.code == 403 => anyhow!(
                "{}; docs/OPERATIONS.md lists the rights that each command needs (kubectl flashsale)",
                status.message
            ),
            kube::Error::Api(status) if status.code == 401 => anyhow!(
                "the API server {} does not accept the credentials of the kubeconfig: {}",
                self.config.cluster_url,
                status.message
            ),
            kube::Error::Api(status) => anyhow!("{}", status.message),
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => Error::new(error)
                .context(format!("cannot reach the API server {}", self.config.cluster_url)),
            error => Error::new(error),
        }
    }
}

/// The configuration, and the proxy that the kubeconfig names. It is read once: it may come by a pipe.
async fn configuration(target: &Target) -> Result<(Config, Option<String>)> {
    let options =
        KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let read = match &target.kubeconfig {
        Some(file) => Kubeconfig::read_from(file)
            .with_context(|| format!("cannot read the kubeconfig {}", file.display())),
        None => Kubeconfig::read().map_err(Error::new),
    };
    let found = match read {
        Ok(kubeconfig) => {
            let own_proxy = proxy::of_kubeconfig(&kubeconfig, &options);
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map(|config| (config, own_proxy)).map_err(Error::new)
        }
        Err(error) => Err(error),
    };
    match found {
        // The command may run in a pod.
        Err(error) if target.kubeconfig.is_none() && target.context.is_none() => {
            let config = Config::incluster().map_err(|no_pod| {
                error.context(format!(
                    "no cluster: set KUBECONFIG, or give --kubeconfig FILE (this is no pod: {no_pod})"
                ))
            })?;
            Ok((config, None))
        }
        found => found,
    }
}

/// Whether credentials or rights are missing: another attempt does not change that.
pub fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}

/// Adds the explanation to a request.
pub trait Explained<T> {
    /// The result with an error for a person.
    fn explained(self, cluster: &Cluster) -> Result<T>;
}

impl<T> Explained<T> for kube::Result<T> {
    fn explained(self, cluster: &Cluster) -> Result<T> {
        self.map_err(|error| cluster.explain(error))
    }
}
