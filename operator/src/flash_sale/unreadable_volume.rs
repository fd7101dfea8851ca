//! A server that cannot read its volume, because another version wrote it. Both servers say so at the end of their
//! log, exit, and change nothing.

/// Reason of a condition.
pub(super) const REASON: &str = "VolumeUnreadable";

/// The message for a log that ends so.
pub(super) fn message(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| of_postgres(line).or_else(|| of_redis(line)))
}

fn of_postgres(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("initialized by PostgreSQL version ")?;
    let (found, rest) = rest.split_once(',')?;
    let (_, running) = rest.split_once("this version ")?;
    let running = running.split([' ', '(']).next().unwrap_or_default().trim_end_matches('.');
    Some(format!(
        "the volume has the data of PostgreSQL {found}, which PostgreSQL {running} cannot read. Set \
         spec.database.image to an image of PostgreSQL {found}; the data are unchanged"
    ))
}

/// The advice to run `redis-check-aof --fix` is wrong here: it would truncate the file.
fn of_redis(line: &str) -> Option<String> {
    let newer = line.split_once("Can't handle RDB format version ");
    let foreign = line.contains("Bad file format reading the append only file");
    let what = match newer {
        Some((_, format)) => format!("format {}", format.trim()),
        None if foreign => "another format".to_owned(),
        None => return None,
    };
    Some(format!(
        "the volume was written by another version of Redis or Valkey ({what}), which this image cannot read. Set \
         spec.redis.image to the image that wrote it; the data are unchanged. Do not repair the file"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs of the servers themselves: Debian's 18.6, 8.1.1 and 8.0.2.
    #[test]
    fn both_servers_are_understood() {
        let postgres = "2026-11-29 07:00:00.000 UTC [1] FATAL:  database files are incompatible with server\n\
            2026-11-29 07:00:00.000 UTC [1] DETAIL:  The data directory was initialized by PostgreSQL version 15, \
            which is not compatible with this version 18.6 (Debian 18.6-3).\n";
        let found = message(postgres).unwrap();
        assert!(
            found.contains("the data of PostgreSQL 15, which PostgreSQL 18.6 cannot read"),
            "{found}"
        );
        assert!(found.contains("spec.database.image"), "{found}");

        let valkey = "1:M 29 Nov 2026 06:48:37.774 * Reading RDB base file on AOF loading...\n\
            1:M 29 Nov 2026 06:48:37.774 # Can't handle RDB format version 12\n\
            1:M 29 Nov 2026 06:48:37.774 # Error reading the RDB base file appendonly.aof.2.base.rdb, AOF loading aborted\n";
        let found = message(valkey).unwrap();
        assert!(found.contains("(format 12)") && found.contains("spec.redis.image"), "{found}");

        let redis = "1:M 29 Nov 2026 06:49:24.311 # Bad file format reading the append only file \
            appendonly.aof.2.base.rdb: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>";
        assert!(message(redis).unwrap().contains("another format"));
        assert_eq!(message("FATAL:  out of memory"), None);
    }
}
