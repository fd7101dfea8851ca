//! The servers of the matrix.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::{command, output};
use crate::suites::Source;

/// Redis and Valkey: what Debian's suites have.
pub(super) const NODES: [Source; 5] = [
    Source { suites: &["bookworm"], package: "redis-server" },
    Source { suites: &["trixie"], package: "redis-server" },
    Source { suites: &["experimental", "sid"], package: "redis-server" },
    Source { suites: &["trixie"], package: "valkey-server" },
    Source { suites: &["forky"], package: "valkey-server" },
];

/// PostgreSQL.
pub(super) const DATABASES: [Source; 3] = [
    Source { suites: &["bookworm"], package: "postgresql-15" },
    Source { suites: &["trixie"], package: "postgresql-17" },
    Source { suites: &["forky"], package: "postgresql-18" },
];

/// An installed server.
#[derive(Debug)]
pub(super) struct Server {
    /// Such as `Valkey 9.1.2`, from the program itself.
    pub title: String,
    /// The folder with `redis-server` and `redis-cli`, or with `postgres` and `initdb`.
    pub programs: PathBuf,
}

impl Server {
    /// The server below `root`.
    pub fn find(source: &Source, root: &Path) -> Result<Self> {
        if let Some(major) = source.package.strip_prefix("postgresql-") {
            let programs = root.join("usr/lib/postgresql").join(major).join("bin");
            let said = version(&programs.join("postgres"))?;
            // postgres (PostgreSQL) 18.6 (Debian 18.6-3)
            let number = said.split_whitespace().nth(2).context(said.clone())?;
            return Ok(Self { title: format!("PostgreSQL {number}"), programs });
        }
        let programs = root.join("usr/bin");
        let said = version(&programs.join("redis-server"))?;
        // Valkey server v=9.1.2 sha=00000000:0 ...
        let name = said.split(' ').next().context("no name")?;
        let number = said.split("v=").nth(1).and_then(|it| it.split(' ').next());
        let title = format!("{name} {}", number.context(said.clone())?);
        Ok(Self { title, programs })
    }
}

fn version(program: &Path) -> Result<String> {
    output(command(program).arg("--version"))
}
