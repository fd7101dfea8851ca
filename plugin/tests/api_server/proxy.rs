//! A proxy between the plugin and the API server.

use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::{ADMIN, Ran, Shop, plugin};

/// The API server by a name that only the proxy knows.
const NAME: &str = "api.flashsale.test";

/// A proxy that tunnels to one server, whatever name it is asked for.
struct HttpProxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, server.clone(), Arc::clone(&all)));
            }
        });
        Self { url, asked }
    }

    /// The hosts that were asked for.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn tunnel(
    mut client: TcpStream,
    server: String,
    asked: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let host = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(host);
    let mut server = TcpStream::connect(server).await?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[tokio::test]
async fn the_api_server_is_reached_through_the_proxy_of_the_environment_or_the_kubeconfig() {
    let shop = Shop::open("proxied").await;
    shop.open_sale("autumn").await;
    let kubeconfig = shop.server.kubeconfig(ADMIN);
    let direct = std::fs::read_to_string(kubeconfig.path()).unwrap();
    let (_, address) = direct.split_once("https://127.0.0.1:").unwrap();
    let port: String = address.chars().take_while(char::is_ascii_digit).collect();
    let proxy = HttpProxy::start(format!("127.0.0.1:{port}")).await;
    let status = async |text: &str, environment: Option<&str>| {
        std::fs::write(kubeconfig.path(), text).unwrap();
        let mut command = Command::new(plugin());
        command.args(["status", "autumn", "-n", "proxied", "--kubeconfig"]).arg(kubeconfig.path());
        // It names the proxy, not the API server.
        command
            .envs(environment.map(|proxy| ("HTTPS_PROXY", proxy)))
            .env("NO_PROXY", "127.0.0.0/8");
        Ran::of(&command.output().await.unwrap())
    };

    let named = direct.replace("127.0.0.1", NAME);
    let host = format!("{NAME}:{port}");
    let ran = status(&named, Some(&proxy.url)).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|it| *it == host), "{asked:?}");

    // One on this machine is reached without it, as kubectl does.
    let ran = status(&direct, Some("http://127.0.0.1:9")).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let server = format!("https://{host}");
    let own = named.replace(&server, &format!("{server}\", \"proxy-url\": \"{}", proxy.url));
    let ran = status(&own, None).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(proxy.asked().len() > asked.len());
}

#[tokio::test]
async fn a_kubeconfig_that_comes_by_a_pipe_is_read_once() {
    let shop = Shop::open("piped").await;
    shop.open_sale("autumn").await;
    let kubeconfig = std::fs::read(shop.server.kubeconfig(ADMIN).path()).unwrap();
    let mut command = Command::new(plugin());
    command.args(["status", "autumn", "-n", "piped"]).env("KUBECONFIG", "/dev/stdin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&kubeconfig).await.unwrap();
    let ran = Ran::ended(child).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
