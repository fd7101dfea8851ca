//! Only one of the processes that run this program on the same nodes works at a time. The others wait,
//! first come, first served.
//!
//! ```text
//! for port in 7001 7002 7003; do redis-server --port $port --save "" --daemonize yes; done
//! cargo run --example one_at_a_time -- 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003
//! ```
//!
//! Start it in two terminals. Then kill the one that works: the other starts when the lease ends.

use std::process::ExitCode;
use std::time::Duration;

use redlock::{AcquireError, Config, Lease, NodeConfig, Policy, QueueDiscipline, Redlock};

const RESOURCE: &str = "one-at-a-time";
/// Steps of one second each. Together they take longer than the lease, so the lease is extended.
const STEPS: u32 = 10;
const POLICY: Policy = Policy {
    wait_timeout: Duration::from_mins(1),
    lease_time: Duration::from_secs(3),
    discipline: QueueDiscipline::Fair,
};

#[tokio::main]
async fn main() -> ExitCode {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    if addresses.is_empty() {
        eprintln!("usage: one_at_a_time ADDRESS...");
        eprintln!("ADDRESS is host:port or redis://[:password@]host:port[/db] of a Redis node");
        return ExitCode::from(2);
    }
    match run(&addresses).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(addresses: &[String]) -> Result<(), String> {
    let node = |address: &String| NodeConfig { address: address.clone(), password: None };
    let config = Config::new(addresses.iter().map(node).collect());
    let redlock = Redlock::start(&config).map_err(|error| explain(&error))?;

    println!("waiting for {RESOURCE}");
    let lease = redlock.acquire(RESOURCE, POLICY).await.map_err(|error| explain(&error))?;
    println!("acquired; fencing token {}", lease.token());

    lease.keep_extended();
    if lease.while_held(work(&lease)).await.is_none() {
        return Err("the lease was lost, and the work was dropped in the middle".to_owned());
    }
    // `release` would wait for a majority only, and this process ends now.
    lease.release_everywhere(&[]).await;
    println!("released");
    Ok(())
}

/// Real work would write to a store that refuses a fencing token below the highest it has stored.
async fn work(lease: &Lease) {
    for step in 1..=STEPS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("step {step} of {STEPS}; the lease lasts {:.1?} more", lease.remaining());
    }
}

/// The error, and how to solve it.
fn explain(error: &AcquireError) -> String {
    let remedy = match error {
        AcquireError::Timeout { .. } => "another process is still at work; run this one again",
        AcquireError::QuorumUnavailable { .. } => {
            "start the nodes or correct their addresses; one that restarted votes after 10 s"
        }
        AcquireError::BadNode { .. } => "name each node once, as host:port; the first is node 0",
        _ => return error.to_string(),
    };
    format!("{error}: {remedy}")
}
