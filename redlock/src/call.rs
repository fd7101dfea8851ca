//! A call of a script: made once, sent to every node.

use std::fmt::Display;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    Arg, Cmd, ErrorKind, FromRedisValue, RedisResult, RedisWrite, Script, ServerErrorKind,
    ToRedisArgs,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Call {
    script: Arc<Script>,
    command: Cmd,
}

impl Call {
    /// So many keys follow, then the arguments.
    pub(crate) fn new(script: &Arc<Script>, keys: usize) -> Self {
        let mut command = Cmd::with_capacity(8 + 2 * keys, 256 + 32 * keys);
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys);
        Self { script: Arc::clone(script), command }
    }

    /// As [`Call::new`], with the script's text: works whatever the node has loaded, and Redis counts it
    /// as `EVAL`, so that `EVALSHA` counts what the lock itself costs.
    pub(crate) fn in_full(script: &Arc<Script>, text: &str, keys: usize) -> Self {
        let mut command = Cmd::with_capacity(8 + keys, 256 + text.len());
        command.arg("EVAL").arg(text).arg(keys);
        Self { script: Arc::clone(script), command }
    }

    pub(crate) fn key(&mut self, key: impl Display) -> &mut Self {
        self.command.write_arg_fmt(key);
        self
    }

    pub(crate) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// The keys that it was given, which are only needed where it failed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let text = |argument| match argument {
            Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let mut arguments = self.command.args_iter().map(text).skip(2);
        let keys = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
        arguments.take(keys)
    }

    /// The script is sent where it is not known any more (`SCRIPT FLUSH`).
    pub(crate) async fn invoke<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<T> {
        match self.command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            answer => answer,
        }
    }
}
