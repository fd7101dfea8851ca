//! Which processor cores a process may use.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::process::Command;

/// The cores of this machine, divided between a server and what drives it.
#[derive(Debug, Clone)]
pub struct Cores {
    /// For everything else.
    pub servers: Vec<usize>,
    /// For the driver alone.
    pub driver: usize,
}

impl Cores {
    /// Divides the cores that this process may use.
    ///
    /// # Errors
    /// When there is only one.
    pub fn divide() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut servers: Vec<usize> =
            (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect();
        let all = available_parallelism()?;
        ensure!(servers.len() > 1, "this bench needs two cores, and may use {all}");
        let driver = servers.pop().context("no core")?;
        Ok(Self { servers, driver })
    }
}

/// A program, on one core if that is given.
pub fn program(name: impl AsRef<Path>, core: Option<usize>) -> Command {
    let Some(core) = core else { return Command::new(name.as_ref()) };
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(name.as_ref());
    command
}

/// Keeps a running process, all of its threads and its children to these cores.
///
/// # Errors
/// When it is gone.
pub fn keep(process: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    let tasks = format!("/proc/{process}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let task = task?;
        let id: i32 = task.file_name().to_string_lossy().parse()?;
        // A thread may end between the listing and the call.
        let _ = sched_setaffinity(Pid::from_raw(id), &set);
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            keep(child.parse()?, cores)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_and_its_child_are_kept_to_their_cores() {
        let Ok(cores) = Cores::divide() else { return };
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", shell.id());
        let child = loop {
            let child = std::fs::read_to_string(&children).unwrap();
            if let Some(child) = child.split_whitespace().next() {
                break child.parse::<i32>().unwrap();
            }
        };
        keep(shell.id(), &[cores.driver]).unwrap();
        let set = sched_getaffinity(Pid::from_raw(child)).unwrap();
        let allowed: Vec<usize> =
            (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap()).collect();
        assert_eq!(allowed, [cores.driver]);
        let _ = Command::new("kill").arg(child.to_string()).status();
        shell.wait().unwrap();
    }
}
