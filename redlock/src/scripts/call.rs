//! A call of a script, built once and sent to every node.

use std::fmt::Display;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    Arg, Cmd, ErrorKind, FromRedisValue, RedisResult, RedisWrite, Script, ServerErrorKind,
    ToRedisArgs,
};

/// A script with its keys and arguments.
#[derive(Debug)]
pub(crate) struct ScriptCall {
    script: Arc<Script>,
    command: Cmd,
}

impl ScriptCall {
    /// A call by the script's hash. `keys` keys must be added, then the arguments.
    pub(crate) fn new(script: &Arc<Script>, keys: usize) -> Self {
        let mut command = Cmd::with_capacity(8 + 2 * keys, 256 + 32 * keys);
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys);
        Self { script: Arc::clone(script), command }
    }

    /// A call with the script's text, which works on a node that has not loaded the script. Redis counts
    /// it as `EVAL`, so the statistics of `EVALSHA` show the cost of the lock alone.
    pub(crate) fn in_full(script: &Arc<Script>, text: &str, keys: usize) -> Self {
        let mut command = Cmd::with_capacity(8 + keys, 256 + text.len());
        command.arg("EVAL").arg(text).arg(keys);
        Self { script: Arc::clone(script), command }
    }

    /// Adds a key.
    pub(crate) fn key(&mut self, key: impl Display) -> &mut Self {
        self.command.write_arg_fmt(key);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// The keys of the call. Read from the encoded command, because only failures need them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let text = |argument| match argument {
            Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        let mut arguments = self.command.args_iter().map(text).skip(2);
        let keys = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
        arguments.take(keys)
    }

    /// Runs the call. Loads the script first where the node lost it (`SCRIPT FLUSH`).
    pub(crate) async fn invoke<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<T> {
        match self.command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.script.load_async(connection).await?;
                self.command.query_async(connection).await
            }
            reply => reply,
        }
    }
}
