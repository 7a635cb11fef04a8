//! A started program: its log file, its end. No program outlives the process that started it, even if that one is
//! killed, and Ctrl-C in the terminal reaches only the harness, which then ends them in order.

use std::{
    ffi::OsString,
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 40;

/// A running program with its log.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `program`, its standard output and error appended to `log`.
    ///
    /// # Errors
    /// The log cannot be written or the program cannot be started.
    pub fn start(
        name: &str,
        program: &Path,
        configure: impl FnOnce(&mut Command),
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        let mut wanted = Command::new(program);
        configure(&mut wanted);
        let mut command = bound_to_us(program, &wanted);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = spawn(command).with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), ended: None })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that its output goes to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Fails with the end of its log if it is not running.
    ///
    /// # Errors
    /// It ended.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.ended() else { return Ok(()) };
        anyhow::bail!("{} ended with {status}:\n{}", self.name, last_lines(&self.log(), SHOWN_LINES))
    }

    /// SIGTERM, and the exit status if it ends in time; SIGKILL and an error if it does not.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill();
        anyhow::bail!("{} did not end within {within:?} of SIGTERM", self.name)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// SIGSTOP: it holds its connections and says nothing.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_some() {
            return;
        }
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if let Err(error) = kill_process(pid, signal) {
            tracing::warn!(%error, process = self.name, ?signal, "cannot signal a process, which ended just now");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            show(&format!(
                "---- end of the log of {} ----\n{}\n",
                self.name,
                last_lines(&self.log(), SHOWN_LINES)
            ));
        }
    }
}

/// For failures only; a destructor cannot report that standard error is closed.
fn show(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The same command under setpriv, which asks the kernel to kill it when the thread that started it is gone.
fn bound_to_us(program: &Path, wanted: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(wanted.get_args());
    for (name, value) in wanted.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = wanted.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// The kernel's parent-death signal follows the thread, not the process, so one thread that never ends starts them all.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // The one who asked waits for the answer, so the channel is open.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, result) = mpsc::channel();
    let gone = || std::io::Error::other("the thread that starts programs is gone");
    spawner.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// The last `limit` bytes of a file, for messages.
pub(crate) fn tail(path: &Path, limit: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
        std::io::read_to_string(file)
    };
    read().unwrap_or_else(|error| format!("({}: {error})", path.display()))
}

/// Environment that makes a child independent of the caller's: no proxies, no Nave settings, no AWS settings.
pub(crate) fn without_callers_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_lowercase();
        let foreign = text.starts_with("nave_") || text.starts_with("aws_") || text.ends_with("_proxy");
        if foreign || text == "kubeconfig" {
            command.env_remove::<OsString>(name);
        }
    }
}
