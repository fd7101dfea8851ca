//! Prices, and the services that report payments.

use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::secret_names::SecretNames;
use flashsale_operator::flash_sale::validate::validate;
use serde_json::Value;

use crate::build::{built, container, value};
use crate::{data, images, references, sale};

const STRIPE: &str = "payments: {stripe: {secretRef: {name: shop-stripe}}}";

#[test]
fn the_app_is_given_the_secret_of_stripe_as_a_file() {
    let resources = built(STRIPE, references());
    let app = container(&resources);
    let file = "/etc/flashsale/stripe/webhook-secret";
    assert_eq!(value(&app.env.unwrap(), "STRIPE_WEBHOOK_FILE"), file);
    let mount = &app.volume_mounts.unwrap()[0];
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/etc/flashsale/stripe", Some(true)));
    assert_eq!(mount.sub_path, None, "the kubelet updates no subPath");
    let pod = resources.app.spec.unwrap().template.spec.unwrap();
    let secret = pod.volumes.unwrap().remove(0).secret.unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("shop-stripe"));
    let items = secret.items.unwrap();
    assert_eq!((items.len(), items[0].key.as_str()), (1, "webhook-secret"));
    let app = container(&built("", references()));
    assert_eq!(value(&app.env.unwrap(), "STRIPE_WEBHOOK_FILE"), "");
}

#[test]
fn a_replaced_secret_restarts_nothing_and_a_missing_one_is_named() {
    let template = |references| built(STRIPE, references).app.spec.unwrap().template;
    let replaced = data(&[("webhook-secret", "whsec_another whsec_of_the_tests")]);
    let replaced = References { stripe: Some(replaced), ..references() };
    assert_eq!(template(references()), template(replaced));
    let of = |stripe| {
        let found = References { stripe, ..references() };
        validate(&sale(STRIPE), found, &images()).unwrap_err()
    };
    let missing = of(None);
    assert_eq!(missing.reason, "SecretMissing");
    assert!(missing.message.contains("shop-stripe"), "{}", missing.message);
    assert_eq!(of(Some(data(&[("other", "x")]))).reason, "SecretIncomplete");
    assert!(SecretNames::of(&sale(STRIPE)).contains("shop-stripe"), "it is watched");
}

#[test]
fn a_price_reaches_the_seed() {
    let products = "products: [{id: '1', stock: 1, price: {amount: 49900, currency: EUR}}]";
    let catalog = built(products, references()).catalog.data.unwrap();
    let catalog: Value = serde_json::from_str(&catalog["catalog.json"]).unwrap();
    let expected = serde_json::json!({"amount": 49_900, "currency": "EUR"});
    assert_eq!(catalog["products"][0]["price"], expected);
}
