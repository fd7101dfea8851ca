#!/bin/sh
# Guess: a GET in an API group that the server does not serve is a 404, so `Status::is_not_found()` of kube says true,
#        as it does for an object that does not exist in a group that is served.
# Seen:  kube 5.0.0 says false. Kubernetes answers such a path with a plain text, `404 page not found`, which is no `Status`.
#        kube makes a `Status` with code 404 and the reason "Failed to parse error data", and `is_not_found()` trusts the
#        reason. So `get_opt()` fails as well, instead of giving `None`. An operator that looks for an optional kind, such as
#        `HTTPRoute` where no Gateway API is installed, must compare the code.
# Runs:  kube 5.0.0 from crates.io, a server on loopback that answers as Kubernetes does, no cluster. Needs cargo.
# Ends:  0 if it is as seen, 1 if it changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
http = "1"
k8s-openapi = { version = "=0.29.0", features = ["v1_33"] }
kube = { version = "=5.0.0", default-features = false, features = ["client"] }
tokio = { version = "1", features = ["full"] }
TOML
cat >"$folder/src/main.rs" <<'RUST'
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NO_OBJECT: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"configmaps \"none\" not found","reason":"NotFound","code":404}"#;

async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.unwrap_or(0);
        let is_served = String::from_utf8_lossy(&request[..length]).contains("/configmaps/");
        let (kind, body) = if is_served {
            ("application/json", NO_OBJECT)
        } else {
            ("text/plain; charset=utf-8", "404 page not found\n")
        };
        let response = format!(
            "HTTP/1.1 404 Not Found\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: http::Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(serve(listener));
    let client = Client::try_from(Config::new(url)).unwrap();

    let served: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let route = ApiResource {
        group: "gateway.networking.k8s.io".into(),
        version: "v1".into(),
        api_version: "gateway.networking.k8s.io/v1".into(),
        kind: "HTTPRoute".into(),
        plural: "httproutes".into(),
    };
    let unserved: Api<DynamicObject> = Api::namespaced_with(client, "default", &route);
    for (what, error) in [
        ("no such object", served.get("none").await.err()),
        ("no such API group", unserved.get("none").await.map(drop).err()),
    ] {
        match error {
            Some(kube::Error::Api(status)) => println!(
                "{what}: code {}, reason {:?}, is_not_found {}",
                status.code, status.reason, status.is_not_found()
            ),
            other => println!("{what}: {other:?}"),
        }
    }
    println!("no such object: get_opt {}", served.get_opt("none").await.is_ok());
    println!("no such API group: get_opt {}", unserved.get_opt("none").await.is_ok());
}
RUST
seen=$(cd "$folder" && cargo run --quiet 2>/dev/null)
expected='no such object: code 404, reason "NotFound", is_not_found true
no such API group: code 404, reason "Failed to parse error data", is_not_found false
no such object: get_opt true
no such API group: get_opt false'
echo "kube 5.0.0"
echo "$seen"
if [ "$seen" = "$expected" ]; then
	echo "as seen: a path that is not served is no NotFound"
else
	echo "changed; it was:"
	echo "$expected"
	exit 1
fi
