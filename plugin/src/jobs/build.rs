//! The Job of the load tool, made from the sale's own Deployment: what its replicas know about Redis and the database, the
//! tool must know too. Takes no client.

use anyhow::{Context as _, Result, bail};
use flashsale_operator::crd::{FlashSale, PodTemplate};
use flashsale_operator::flash_sale::names::COMPONENT;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PodSpec, PodTemplateSpec, ResourceRequirements, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

/// The container of the tool.
pub const CONTAINER: &str = "load";
/// Label of the pods, which the network policies of the samples admit.
pub const LOAD: &str = "load";
/// Label of a Job: the command that made it.
pub const COMMAND: &str = "flashsale.dev/command";
/// The replicas' container.
const APP: &str = "app";
/// What the tool reads of the replicas' environment.
const SETTINGS: [&str; 6] = [
    "DATABASE_URL",
    "DATABASE_CA_FILE",
    "REDIS_NODES",
    "REDIS_PASSWORD",
    "REDIS_CA_FILE",
    "SALE_NAME",
];
/// The signing key, for buyers.
const SIGNING_KEY: &str = "JWT_SECRET";
/// Label of a pod, by Kubernetes: the name of its Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Where the first of several pods waits for the others: the default of the tool.
const PODS_PORT: i32 = 7070;
/// Memory limit of a pod.
const MEMORY: &str = "512Mi";
/// The volume with the authorities of the stores.
const AUTHORITIES: &str = "stores-tls";

/// What the Job runs.
#[derive(Debug, Clone, Default)]
pub struct Tool<'a> {
    /// The command of the plugin, for the Job's name and its label.
    pub command: &'a str,
    /// Arguments of the tool.
    pub arguments: Vec<String>,
    /// A program instead of the tool's entrypoint.
    pub program: Option<&'a str>,
    /// More variables.
    pub environment: Vec<(String, String)>,
    /// Variables of the replicas that the tool must not see.
    pub without: &'a [&'a str],
    /// Whether it signs tokens of buyers.
    pub signs_tokens: bool,
    /// The image; absent: that of the replicas with another name.
    pub image: Option<&'a str>,
    /// Seconds until Kubernetes ends it.
    pub deadline_seconds: i64,
    /// Seconds until Kubernetes removes it after its end.
    pub kept_seconds: i32,
    /// Pods that share the work; 0 and 1: one.
    pub pods: u32,
    /// Memory limit of a pod (default: 512Mi).
    pub memory: Option<&'a str>,
}

/// The Job.
pub fn job(sale: &FlashSale, deployment: &Deployment, tool: &Tool<'_>) -> Result<Job> {
    let name = sale.name_any();
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let pod = template.context("the sale's Deployment has no pod template")?;
    let app = pod.containers.iter().find(|container| container.name == APP);
    let app = app.context("the sale's Deployment has no container named app")?;
    let image = match tool.image {
        Some(image) => image.to_owned(),
        None => load_image(app.image.as_deref().unwrap_or_default())?,
    };
    let labels = [
        ("app.kubernetes.io/name", "flashsale"),
        ("app.kubernetes.io/instance", name.as_str()),
        (COMPONENT, LOAD),
        (COMMAND, tool.command),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let declared = sale.spec.app.pod_template.as_deref();
    let is_kept = |volume: &str| volume == AUTHORITIES || is_declared(declared, volume);
    let mut security = pod.security_context.clone();
    if let Some(security) = &mut security {
        security.fs_group_change_policy = None;
    }
    let job = format!("{name}-{}-{:05x}", tool.command, rand::random_range(0..0x10_0000));
    let shared = tool.pods > 1;
    let pods = shared.then(|| i32::try_from(tool.pods).unwrap_or(i32::MAX));
    let mut container = container(app, image, tool, declared, is_kept);
    if shared {
        let variable = |name: &str, value: String| EnvVar {
            name: name.to_owned(),
            value: Some(value),
            value_from: None,
        };
        let coordinator = format!("{job}-0.{job}:{PODS_PORT}");
        let env = container.env.get_or_insert_default();
        env.push(variable("PODS", tool.pods.to_string()));
        env.push(variable("COORDINATOR", coordinator));
    }
    let spec = PodSpec {
        containers: vec![container],
        // The name of the Service: gives each pod a name.
        subdomain: shared.then(|| job.clone()),
        volumes: pod.volumes.clone().map(|mut volumes| {
            volumes.retain(|volume| is_kept(&volume.name));
            volumes
        }),
        image_pull_secrets: pod.image_pull_secrets.clone(),
        node_selector: pod.node_selector.clone(),
        tolerations: pod.tolerations.clone(),
        service_account_name: pod.service_account_name.clone(),
        security_context: security,
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(5),
        ..PodSpec::default()
    };
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(job),
            namespace: sale.namespace(),
            labels: Some(labels.clone().into()),
            owner_references: owner(sale).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completion_mode: shared.then(|| "Indexed".to_owned()),
            completions: pods,
            parallelism: pods,
            // A pod that fails does not end the others: the first one says why.
            backoff_limit_per_index: shared.then_some(0),
            backoff_limit: (!shared).then_some(0),
            active_deadline_seconds: Some(tool.deadline_seconds),
            ttl_seconds_after_finished: Some(tool.kept_seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels.into()), ..ObjectMeta::default() }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// The Service that gives the pods of a Job their names, ready or not; `None`: it has one pod.
pub fn service(job: &Job) -> Option<Service> {
    job.spec.as_ref()?.completion_mode.as_ref()?;
    Some(Service {
        metadata: ObjectMeta {
            name: job.metadata.name.clone(),
            namespace: job.namespace(),
            labels: job.metadata.labels.clone(),
            owner_references: Some(vec![owned_by(job)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some([(JOB_NAME.to_owned(), job.name_any())].into()),
            ports: Some(vec![ServicePort {
                name: Some("pods".to_owned()),
                port: PODS_PORT,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// For what is removed with a Job.
pub fn owned_by(job: &Job) -> OwnerReference {
    OwnerReference {
        api_version: Job::api_version(&()).into_owned(),
        kind: Job::kind(&()).into_owned(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// The sale owns the Job, but is not its controller: the operator leaves it alone.
fn owner(sale: &FlashSale) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: FlashSale::api_version(&()).into_owned(),
        kind: FlashSale::kind(&()).into_owned(),
        name: sale.name_any(),
        uid: sale.uid()?,
        ..OwnerReference::default()
    })
}

fn container(
    app: &Container,
    image: String,
    tool: &Tool<'_>,
    declared: Option<&PodTemplate>,
    is_kept: impl Fn(&str) -> bool,
) -> Container {
    let own = |name: &str| {
        let known = SETTINGS.contains(&name) || (tool.signs_tokens && name == SIGNING_KEY);
        let users = declared.is_some_and(|it| it.env.iter().any(|variable| variable.name == name));
        (known || users) && !tool.without.contains(&name)
    };
    let env = app.env.iter().flatten().filter(|variable| own(&variable.name)).cloned();
    let more = tool.environment.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        value_from: None,
    });
    let amount = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: tool.program.map(|program| vec![program.to_owned()]),
        args: Some(tool.arguments.clone()),
        env: Some(env.chain(more).collect()),
        volume_mounts: app.volume_mounts.clone().map(|mut mounts| {
            mounts.retain(|mount| is_kept(&mount.name));
            mounts
        }),
        resources: Some(ResourceRequirements {
            requests: Some([amount("cpu", "100m"), amount("memory", "64Mi")].into()),
            limits: Some([amount("memory", tool.memory.unwrap_or(MEMORY))].into()),
            ..ResourceRequirements::default()
        }),
        security_context: app.security_context.clone(),
        ..Container::default()
    }
}

/// Whether the user declared this volume for the replicas, such as the authority of an external database.
fn is_declared(template: Option<&PodTemplate>, volume: &str) -> bool {
    template.is_some_and(|it| it.volumes.iter().any(|declared| declared.name == volume))
}

/// The image of the load tool beside that of the replicas.
pub fn load_image(app: &str) -> Result<String> {
    let remedy = "give the image of the load tool with --image";
    if app.contains('@') {
        bail!(
            "the replicas' image {app} is named by its digest, which the load tool does not have: {remedy}"
        );
    }
    let (folder, name) = app.rsplit_once('/').map_or(("", app), |(folder, name)| (folder, name));
    let Some(tag) = name.strip_prefix("flashsale-app") else {
        bail!("the replicas' image {app} is not called flashsale-app: {remedy}");
    };
    let slash = if folder.is_empty() { "" } else { "/" };
    Ok(format!("{folder}{slash}flashsale-load{tag}"))
}
