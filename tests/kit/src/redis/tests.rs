//! A real server of each kind.

use nix::unistd::{Pid, getpgid, getpgrp};

use super::*;

#[test]
fn a_clock_of_its_own_jumps_and_the_server_goes_on() {
    let server = RedisServer::start_with_own_clock().unwrap();
    let ahead = |server: &RedisServer| {
        let machine = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
        server.time().unwrap() - machine
    };
    for (set, seen) in [(0, -1..=1), (3600, 3598..=3602), (-3600, -3602..=-3598)] {
        server.set_clock(set).unwrap();
        assert!(seen.contains(&ahead(&server)), "{set}: {}", ahead(&server));
        assert!(server.get("key").unwrap().is_none());
    }
    server.command("SET key value PX 60000").unwrap();
    assert_eq!(server.get("key").unwrap().as_deref(), Some("value"));
    server.set_clock(3600).unwrap();
    assert!(server.get("key").unwrap().is_none(), "it expired by the server's clock");
    assert!(RedisServer::start().unwrap().set_clock(1).is_err());
}

#[test]
fn a_long_reply_is_read_to_its_end() {
    let server = RedisServer::start().unwrap();
    let long = "x".repeat(50_000);
    server.command(&format!("SET key {long}")).unwrap();
    assert_eq!(server.get("key").unwrap().as_deref(), Some(long.as_str()));
    assert!(server.get("another").unwrap().is_none());
    assert_eq!(server.calls("set").unwrap(), 1);
    let both = server.command("MGET another key").unwrap();
    assert_eq!(both, format!("*2\r\n$-1\r\n$50000\r\n{long}\r\n"));
    let cut_off = &mut &b"$5\r\nabc"[..];
    assert!(read_reply(cut_off, &mut Vec::new()).is_err());
    assert!(read_reply(&mut &b""[..], &mut Vec::new()).is_err());
}

#[test]
fn a_server_in_a_group_of_its_own_does_not_end_with_ours() {
    let group =
        |server: &RedisServer| getpgid(Some(Pid::from_raw(server.pid().cast_signed()))).unwrap();
    let ours = RedisServer::start().unwrap();
    assert_eq!(group(&ours), getpgrp());
    let mut own = RedisServer::start_in_own_group(Fsync::EverySecond).unwrap();
    assert_ne!(group(&own), getpgrp());
    own.restart().unwrap();
    assert_ne!(group(&own), getpgrp());
}
