//! What the demo prints: steps with the time since its start, commands with their output, and the fleet whenever it
//! changed.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use nave_tests::{Kubectl, Stack};
use serde_json::Value;

/// How often the fleet is looked at while it changes.
const INTERVAL: Duration = Duration::from_millis(500);

/// Standard output, with a clock.
pub(crate) struct Screen {
    began: Instant,
    last: Vec<String>,
}

/// The fleet, as kubectl sees it.
pub(crate) struct Watched {
    kubectl: Kubectl,
    model: &'static str,
}

impl Watched {
    pub(crate) fn new(kubectl: Kubectl, model: &'static str) -> Self {
        Self { kubectl, model }
    }

    /// One line for each cluster that has something to do with the model: what would make a new picture.
    async fn lines(&self) -> anyhow::Result<Vec<String>> {
        let fleet = self.kubectl.json(&["nave", "status"]).await?;
        let rows = fleet["entries"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().filter(|row| row["model"] == self.model).map(line).collect())
    }
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let done = match (row["progress"]["bytesDone"].as_u64(), row["progress"]["bytesTotal"].as_u64()) {
        (Some(done), Some(total)) if total > 0 => {
            format!(" {} of {} MB", done / 1_000_000, total / 1_000_000)
        }
        _ => String::new(),
    };
    format!("{:12} {:8} {}{done} {}", text("cluster"), text("version"), text("phase"), text("message"))
        .trim_end()
        .to_owned()
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), last: Vec::new() }
    }

    /// A new step of the story.
    pub(crate) fn step(&self, text: &str) -> anyhow::Result<()> {
        Self::write(&format!("\n[{:5.1} s] {text}\n", self.began.elapsed().as_secs_f64()))
    }

    /// A remark.
    pub(crate) fn say(&self, text: &str) -> anyhow::Result<()> {
        Self::write(&format!("          {text}\n"))
    }

    /// A command and what it printed.
    pub(crate) async fn command(&self, watched: &Watched, arguments: &[&str]) -> anyhow::Result<()> {
        let output = watched.kubectl.run(arguments).await?;
        Self::write(&format!("\n$ kubectl {}\n{output}", arguments.join(" ")))
    }

    /// Prints what changed in the fleet, for ever; returns only to report that looking failed.
    pub(crate) async fn follow(&mut self, watched: &Watched) -> anyhow::Result<()> {
        loop {
            let lines = watched.lines().await?;
            for line in lines.iter().filter(|line| !self.last.contains(line)) {
                self.say(line)?;
            }
            self.last = lines;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The last words of a demo that did not get to its end.
    pub(crate) fn failed(error: &anyhow::Error) {
        // Where standard error is closed there is nobody left to tell.
        drop(writeln!(io::stderr(), "\ndemo: {error:#}"));
    }

    pub(crate) fn how_to_look_around(&self, stack: &Stack) -> anyhow::Result<()> {
        let path = format!("{}:{}", stack.tools.folder().display(), stack.kubectl.folder().display());
        self.step("it is up. Look around from another terminal:")?;
        Self::write(&format!(
            "\n  export KUBECONFIG={}\n  export PATH={path}:$PATH\n  kubectl nave status --watch\n  \
             kubectl get edgeclusters,placementpolicies\n\nIt stays up until Ctrl-C, which stops and removes all of it.\n",
            stack.plane.kubeconfig().display()
        ))
    }

    fn write(text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
