//! A process of the node, with its log in a file, that ends when this process does.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
};

use anyhow::{Context, Result, bail};

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// A running process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
}

impl Daemon {
    /// Starts `words`, with standard output and error in `log`.
    pub(super) fn spawn(name: &'static str, words: &[String], log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        // The kernel sends the signal when the starting thread ends, hence the thread that never does.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(words);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let (answer, answered) = mpsc::channel();
        if starter().send((command, answer)).is_err() {
            bail!("start {name}: the starting thread is gone");
        }
        let child = answered.recv()?.with_context(|| format!("start {name}"))?;
        Ok(Self { name, child })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// An error when it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look at {}", self.name))? {
            Some(status) => bail!("{} ended: {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

fn starter() -> &'static mpsc::Sender<Request> {
    static STARTER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    STARTER.get_or_init(|| {
        let (requests, queue) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            while let Ok((mut command, answer)) = queue.recv() {
                // Who asked may be gone; the child then ends with its handle.
                answer.send(command.spawn()).ok();
            }
        });
        requests
    })
}
