//! Which logs are read: the flags of `logs`, the parts of a sale, and their pods.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, Explained};
use crate::table::parse_duration;

/// The flags of `logs`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  kubectl flashsale logs -n shop black-friday
  kubectl flashsale logs -n shop black-friday --component redis --since 10m
  kubectl flashsale logs -n shop black-friday --follow | grep WARN
  kubectl flashsale logs -n shop black-friday --component operator --tail 50")]
pub struct Options {
    /// The sale
    pub name: String,
    /// The part
    #[arg(short, long, value_enum, default_value = "app")]
    pub component: Component,
    /// Go on with new lines, also of new pods, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines newer than this, such as 30s, 10m or 2h
    #[arg(long, value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Only this number of lines, from the end of each pod's log
    #[arg(long)]
    pub tail: Option<u32>,
    /// The containers before their last restart
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Begin each line with its time
    #[arg(long)]
    pub timestamps: bool,
    /// Where the operator runs (default: all namespaces are searched)
    #[arg(long, value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,
}

/// A part of a sale, or what belongs to it.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Replicas of the purchase API
    App,
    /// Redis nodes
    Redis,
    /// The sale's own database
    Database,
    /// The seed Job
    Seed,
    /// Load Jobs
    Load,
    /// The operator, with all of its sales
    Operator,
}

impl Component {
    /// The container whose log counts; a pod may have others beside it.
    pub const fn container(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Redis => "redis",
            Self::Database => "postgres",
            Self::Seed => "seed",
            Self::Load => "load",
            Self::Operator => "operator",
        }
    }

    /// The labels of its pods.
    pub fn selector(self, sale: &str) -> String {
        let component = match self {
            Self::Operator => return OPERATOR.to_owned(),
            Self::App => "app",
            Self::Redis => "redis",
            Self::Database => "database",
            Self::Seed => "seed",
            Self::Load => "load",
        };
        format!("app.kubernetes.io/instance={sale},app.kubernetes.io/component={component}")
    }
}

/// Label of the operator's pods.
pub const OPERATOR: &str = "app.kubernetes.io/name=flashsale-operator";

/// Pods whose logs are read.
#[derive(Clone)]
pub struct Selection {
    /// Where they are.
    pub pods: Api<Pod>,
    /// Their labels.
    pub labels: String,
    /// Their container.
    pub container: &'static str,
}

impl Selection {
    /// The pods, by name.
    pub async fn list(&self, cluster: &Cluster) -> Result<Vec<Pod>> {
        let labelled = ListParams::default().labels(&self.labels);
        let mut pods = self.pods.list(&labelled).await.explained(cluster)?.items;
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }
}

/// The pods of a pod's namespace, because logs are read by namespace.
pub fn pods_beside(cluster: &Cluster, pod: &Pod) -> Api<Pod> {
    let namespace = pod.namespace().unwrap_or_default();
    Api::namespaced(cluster.client.clone(), &namespace)
}

/// Times are always requested, because lines are merged by them.
pub fn parameters(container: &str, options: &Options) -> LogParams {
    LogParams {
        container: Some(container.to_owned()),
        previous: options.previous,
        since_seconds: options.since.and_then(|it| i64::try_from(it.as_secs().max(1)).ok()),
        tail_lines: options.tail.map(i64::from),
        timestamps: true,
        ..LogParams::default()
    }
}
