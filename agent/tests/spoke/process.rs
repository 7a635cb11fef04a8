//! The real binary as a process of its own.

use std::{
    fs::File,
    process::{Child, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    disk::{self, Disk},
    hub::TOKEN,
    site::Site,
};

/// An agent; killed and reaped when it goes out of scope.
pub struct Process(Child);

impl Process {
    /// Starts an agent on the site's state folder, which may lie on a disk of its own.
    pub fn start(site: &Site, disk: Option<&Disk>) -> Self {
        let log = File::options().create(true).append(true).open(site.dir.path().join("agent.log")).unwrap();
        let child = disk::command(disk, env!("CARGO_BIN_EXE_nave-agent"))
            .args(["run", "--http-listen", "127.0.0.1:0", "--cluster", "bridge-a12"])
            .args(["--hub", &format!("127.0.0.1:{}", site.port)])
            .args(["--ca-hash", &site.hub.ca.hash.to_string()])
            .arg("--state-dir")
            .arg(site.state_dir())
            .env("NAVE_JOIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn terminate(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}
