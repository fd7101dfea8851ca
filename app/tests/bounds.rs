//! `bounds.yaml`: what the resource definition takes and refuses, the app and the seed take and refuse too.

use std::collections::BTreeMap;

use clap::{Args, Command};
use flashsale_app::config::{LogConfig, SeedArgs, SeedConfig, ServeArgs, ServeConfig};
use flashsale_app::seed::read_catalog;
use sale::LeaseBounds;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Bound {
    field: String,
    setting: Option<String>,
    product: Option<String>,
    takes: Vec<Case>,
    refuses: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    entry: Map<String, Value>,
    #[serde(default)]
    catalog: Map<String, Value>,
}

impl Case {
    /// The value of a setting, usual or of this case.
    fn setting(&self, name: &str) -> Option<String> {
        let usual = [
            ("DATABASE_URL", "sqlite://sale.db"),
            ("REDIS_NODES", "a:6379,b:6379,c:6379,d:6379,e:6379"),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("CATALOG_FILE", "catalog.json"),
            ("EVENTS_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ];
        let usual = || usual.iter().find(|(usual, _)| *usual == name);
        self.env.get(name).cloned().or_else(|| usual().map(|(_, value)| (*value).to_owned()))
    }

    /// What the app says to the settings.
    fn serve(&self) -> Result<(), String> {
        let config = ServeConfig::from_variables(|name| self.setting(name));
        config.map(|_| ()).map_err(|error| error.to_string())
    }

    /// What the seed says to the settings.
    fn seed(&self) -> Result<SeedConfig, String> {
        SeedConfig::from_variables(|name| self.setting(name)).map_err(|error| error.to_string())
    }

    /// What the seed says to the product, where it takes the settings.
    fn catalog(&self) -> Result<(), String> {
        let config = self.seed()?;
        let mut product = json!({ "id": "1", "name": "Console", "stock": 1 });
        product.as_object_mut().unwrap().extend(self.entry.clone());
        let mut catalog = json!({ "products": [product] });
        catalog.as_object_mut().unwrap().extend(self.catalog.clone());
        let catalog = catalog.to_string();
        let read = read_catalog(&catalog, LeaseBounds::from(&config.lock.nodes));
        read.map(|_| ()).map_err(|error| error.to_string())
    }

    fn name(&self) -> String {
        format!("{:?} {:?}", self.env, self.entry)
    }
}

fn bounds() -> Vec<Bound> {
    serde_norway::from_str(include_str!("../../bounds.yaml")).unwrap()
}

#[test]
fn the_app_and_the_seed_take_what_the_resource_takes() {
    let mut wrong = Vec::new();
    for Bound { field, takes, .. } in bounds() {
        for case in takes {
            for answer in [case.serve(), case.catalog()] {
                wrong.extend(answer.err().map(|error| format!("{field} {}: {error}", case.name())));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_app_and_the_seed_refuse_what_the_resource_refuses_and_name_the_field() {
    let mut wrong = Vec::new();
    for Bound { field, setting, product, refuses, .. } in bounds() {
        for case in refuses {
            let mut answers = Vec::new();
            let is_seeded = !case.entry.is_empty() || !case.catalog.is_empty();
            if let Some(product) = product.as_ref().filter(|_| is_seeded) {
                answers.push((case.catalog(), format!(": {product} must")));
            } else if let Some(setting) = setting.as_ref().filter(|_| !case.env.is_empty()) {
                let only_seed = field.starts_with("spec.seed.");
                if !only_seed {
                    answers.push((case.serve(), format!("{setting}: ")));
                }
                if only_seed || setting.starts_with("LOCK_") {
                    answers.push((case.seed().map(|_| ()), format!("{setting}: ")));
                }
            }
            for (answer, named) in answers {
                match answer {
                    Err(message) if message.contains(&named) => {}
                    other => wrong.push(format!("{field} {}: {other:?}", case.name())),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Settings that take any text, and `RUST_LOG`: no rule of the definition reads the language of log filters.
const WITHOUT_BOUNDS: [&str; 3] = ["HOSTNAME", "OTEL_SERVICE_NAME", "RUST_LOG"];

#[test]
fn each_setting_is_the_operators_or_has_its_bounds_in_the_table() {
    let reserved = include_str!("../../operator/src/crd/reserved.rs");
    let bounds = bounds();
    let commands = [
        ServeArgs::augment_args(Command::new("serve")),
        SeedArgs::augment_args(Command::new("seed")),
        LogConfig::augment_args(Command::new("log")),
    ];
    for argument in commands.iter().flat_map(Command::get_arguments) {
        let name = argument.get_env().unwrap().to_str().unwrap();
        let is_bounded = bounds.iter().any(|it| it.setting.as_deref() == Some(name));
        let is_known = is_bounded || reserved.contains(&format!("\"{name}\""));
        assert_ne!(
            is_known,
            WITHOUT_BOUNDS.contains(&name),
            "{name}: see operator/src/crd/settings.rs"
        );
    }
}

#[test]
fn a_catalog_names_a_product_once() {
    let product = json!({ "id": "1", "name": "Console", "stock": 1 });
    let catalog = json!({ "products": [product, product] }).to_string();
    let config =
        Case { env: BTreeMap::new(), entry: Map::new(), catalog: Map::new() }.seed().unwrap();
    let answer = read_catalog(&catalog, LeaseBounds::from(&config.lock.nodes));
    assert!(answer.unwrap_err().to_string().starts_with("product \"1\": id must not"));
}
