//! The `plugin` step: the archive of `kubectl flashsale` holds a static program. It finds API servers by the machine's
//! hosts file and by DNS, and its kubeconfig by the user's home, whatever else `/etc/nsswitch.conf` names.

use std::fs::{create_dir_all, write};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use super::count::Count;
use crate::binaries::Build;
use crate::plugin;
use crate::shell::{command, output, run as start};

/// Names of the API server: the first is in the hosts file, the second DNS knows.
const NAMES: [&str; 2] = ["file.flashsale.test", "dns.flashsale.test"];
/// The second name as DNS writes it: each part after its length.
const IN_DNS: &[u8] = b"\x03dns\x09flashsale\x04test\x00";
/// An address that no DNS server of a machine has.
const DNS_SERVER: &str = "127.53.53.53";
/// The machine's files in a mount namespace of the plugin's own.
const ON_THE_MACHINE: &str = r#"
    for name in hosts nsswitch.conf passwd resolv.conf; do mount --bind "$1/$name" "/etc/$name" || exit; done
    exec "$1/kubectl-flashsale" status"#;

/// Lists the sales of a small API server by each of its names.
pub fn run(count: &mut Count) {
    let (machine, port) = match machine() {
        Ok(machine) => machine,
        Err(error) => return count.check(Err(error.context("the static plugin"))),
    };
    for name in NAMES {
        let listed = list_sales(&machine, &format!("http://{name}:{port}"));
        count.check(listed.with_context(|| format!("the static plugin, with {name}")));
    }
}

/// A folder with the plugin out of its archive and the files of a machine, and the port of the API server. The servers
/// end with this process.
fn machine() -> Result<(TempDir, u16)> {
    let folder = tempfile::tempdir()?;
    let archive = plugin::pack(Build::Test)?;
    start(command("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()))?;
    let at = folder.path();
    write(at.join("hosts"), format!("127.0.0.1 {}\n", NAMES[0]))?;
    write(at.join("resolv.conf"), format!("nameserver {DNS_SERVER}\n"))?;
    // With services of other machines, such as systemd's, the C library would load modules that are not its own.
    write(at.join("nsswitch.conf"), "hosts: elsewhere\npasswd: elsewhere\n")?;
    write(at.join("passwd"), format!("root:x:0:0:root:{}:/bin/sh\n", at.display()))?;
    let dns = UdpSocket::bind((DNS_SERVER, 53)).context("the DNS server needs root")?;
    let api = TcpListener::bind("127.0.0.1:0")?;
    let port = api.local_addr()?.port();
    thread::spawn(move || answer_queries(&dns));
    thread::spawn(move || answer_requests(&api));
    Ok((folder, port))
}

fn list_sales(machine: &TempDir, server: &str) -> Result<()> {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
        "clusters": [{ "name": "a", "cluster": { "server": server } }],
        "users": [{ "name": "a", "user": {} }],
    });
    let folder = machine.path().join(".kube");
    create_dir_all(&folder)?;
    write(folder.join("config"), kubeconfig.to_string())?;
    let mut unshare = command("unshare");
    unshare.args(["--mount", "sh", "-c", ON_THE_MACHINE, "sh"]).arg(machine.path());
    // Neither HOME nor KUBECONFIG nor a proxy.
    unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    output(&mut unshare).map(drop)
}

/// A DNS server that knows one name.
fn answer_queries(dns: &UdpSocket) -> io::Result<()> {
    const A: &[u8] = b"\x00\x01\x00\x01";
    let mut query = [0; 512];
    loop {
        let (length, from) = dns.recv_from(&mut query)?;
        let mut answer = query[..length].to_vec();
        // The query ends with its question: name, type and class. The answer repeats it.
        let is_known = answer.ends_with(&[IN_DNS, A].concat());
        if let Some(header) = answer.first_chunk_mut::<12>() {
            header[2..4].copy_from_slice(b"\x81\x80");
            header[7] = u8::from(is_known);
        }
        if is_known {
            // The name is the one at byte 12; for a minute, four bytes of address.
            answer.extend(
                [b"\xc0\x0c".as_slice(), A, b"\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"].concat(),
            );
        }
        dns.send_to(&answer, from)?;
    }
}

/// An API server without sales.
fn answer_requests(api: &TcpListener) -> io::Result<()> {
    let sales = json!({ "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSaleList", "metadata": {}, "items": [] });
    let sales = sales.to_string();
    for connection in api.incoming() {
        let mut connection = connection?;
        let mut request = BufReader::new(&connection).lines();
        while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(
            connection,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{sales}",
            sales.len()
        )?;
    }
    Ok(())
}
