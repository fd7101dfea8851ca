//! A call of a script: made once, sent to every node.

use std::fmt::Display;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisResult, RedisWrite, Script, ServerErrorKind, ToRedisArgs,
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

    pub(crate) fn key(&mut self, key: impl Display) -> &mut Self {
        self.command.write_arg_fmt(key);
        self
    }

    pub(crate) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
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
