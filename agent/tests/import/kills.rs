//! SIGKILL in the middle of an import: of `nave-agent import` where no agent runs, and of the running agent that imports.
//! Afterwards the store has the version whole or not at all, nothing in it is unverified, and the same command ends it.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nave_agent::store::Store;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;

use crate::maker::{MIB, Maker, Model, Site, noise, run};

const SEEDS: u64 = 16;
const CHUNKS: u64 = 20;
const LOOK: Duration = Duration::from_millis(1);

fn model() -> Model {
    let large = noise(5, CHUNKS as usize * MIB);
    Model::new("1.0.0", &[("model.bin", large), ("labels.txt", noise(6, 5_000))])
}

/// Where one dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After some time, of that which an undisturbed import takes.
    After(Duration),
    /// When so many chunks are on the disk.
    Chunks(u64),
}

impl Moment {
    /// One of either kind in turn.
    fn of(seed: u64, whole: Duration) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        match seed % 2 {
            0 => Self::After(whole.mul_f64(random.random_range(0.05..1.05))),
            _ => Self::Chunks(random.random_range(1..CHUNKS)),
        }
    }

    /// Waits for it, or for the end of the import.
    fn wait(self, trial: &Trial, import: &mut Child) {
        let began = Instant::now();
        let is_there = || match self {
            Self::After(time) => began.elapsed() >= time,
            Self::Chunks(count) => trial.journaled() >= count,
        };
        while !is_there() && import.try_wait().unwrap().is_none() {
            sleep(LOOK);
        }
    }
}

/// A site, and what is imported there over and over.
struct Trial {
    site: Site,
    model: Model,
    bundle: PathBuf,
    /// How long an import takes when nobody disturbs it.
    whole: Duration,
}

impl Trial {
    fn new() -> Self {
        let (site, model) = (Site::new(), model());
        let bundle = Maker::new(1).carry(&model, None).write(&site.path("bundle"), &site.key, |_| {});
        let began = Instant::now();
        site.import(&bundle);
        let trial = Self { whole: began.elapsed(), site, model, bundle };
        trial.begin_anew();
        trial
    }

    fn begin_anew(&self) {
        fs::remove_dir_all(self.site.path("state")).unwrap();
    }

    /// Chunks that the journal of the large file names.
    fn journaled(&self) -> u64 {
        let Ok(staging) = fs::read_dir(self.site.path("state/store/staging")) else { return 0 };
        let files = staging.filter_map(|one| fs::read_dir(one.ok()?.path()).ok()).flatten().flatten();
        let journals = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "journal"));
        // 8 bytes for each, behind a header.
        journals.filter_map(|file| file.metadata().ok()).map(|found| found.len().saturating_sub(64) / 8).sum()
    }

    /// Nobody runs now: whether the version is there, which it is whole or not at all.
    fn is_held(&self) -> bool {
        let held = self.site.held();
        if self.site.path("state/store").exists() {
            let store = Store::open(self.site.path("state/store")).unwrap();
            assert_eq!(store.verify(false).unwrap().findings, [], "nothing unverified is in the store");
        }
        if held.is_empty() {
            return false;
        }
        assert_eq!(held, [self.model.manifest().digest()]);
        self.site.assert_holds(&self.model);
        true
    }

    fn command(&self) -> Command {
        let mut command = self.site.command(&self.bundle);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }
}

#[test]
fn an_import_killed_at_seeded_moments_shows_nothing_that_is_not_whole_and_goes_on() {
    let trial = Trial::new();
    let mut halfway = false;
    // The last death is one in the middle, so that there is something to go on from.
    for seed in (0..SEEDS).chain((SEEDS + 1..).step_by(2)) {
        let mut import = trial.command().spawn().unwrap();
        Moment::of(seed, trial.whole).wait(&trial, &mut import);
        import.kill().unwrap();
        import.wait().unwrap();
        let begun = trial.journaled() > 0;
        let held = trial.is_held();
        halfway = begun && !held;
        if held {
            trial.begin_anew();
        }
        if seed >= SEEDS - 1 && halfway {
            break;
        }
        assert!(seed < 10 * SEEDS, "it was faster than every kill");
    }
    let (code, said) = run(&mut trial.command());
    assert_eq!(code, 0, "{said}");
    assert!(halfway && trial.is_held());
    let bytes = |field: &str| said["versions"][0][field].as_u64().unwrap();
    // A file that was whole when it died, and only not its version, is reused.
    let kept = bytes("bytesResumed") + bytes("bytesReused");
    assert_eq!(bytes("bytesRead") + kept, bytes("bytes"), "{said}");
    assert!(kept > 0, "{said}");
    assert_eq!(fs::read_dir(trial.site.path("state/store/staging")).unwrap().count(), 0);
}

/// An agent whose hub cannot be reached; killed and reaped when it goes.
struct Agent(Child);

impl Agent {
    /// Started, with its door open.
    fn start(trial: &Trial) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nave-agent"));
        command.args([
            "run",
            "--http-listen",
            "127.0.0.1:0",
            "--hub",
            "127.0.0.1:9",
            "--cluster",
            "bridge-a12",
        ]);
        command.arg("--state-dir").arg(trial.site.path("state"));
        command.arg("--ca-hash").arg(format!("sha256:{}", "0".repeat(64)));
        command.env("NAVE_JOIN_TOKEN", "dcsdtvm5.t6s4pxmtf79i7rby5teo052zeuyfq58ye2l2jxei");
        command.env_remove("NAVE_CONFIG").stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
        let mut agent = Self(command.spawn().unwrap());
        let door = trial.site.path("state/run/import.sock");
        while UnixStream::connect(&door).is_err() {
            assert!(agent.0.try_wait().unwrap().is_none(), "the agent ended");
            sleep(LOOK);
        }
        agent
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn an_agent_killed_while_it_imports_comes_back_with_the_whole_version_or_none_of_it() {
    let trial = Trial::new();
    let mut halfway = 0;
    for seed in 0..SEEDS {
        let mut agent = Agent::start(&trial);
        let mut import = trial.command().spawn().unwrap();
        Moment::of(seed, trial.whole).wait(&trial, &mut import);
        agent.kill();
        let ended = import.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        // It died before it was asked, or after.
        let gone =
            ["AgentGone", "StoreInUse"].contains(&said["error"]["reason"].as_str().unwrap_or_default());
        assert!(ended.status.success() || gone, "{said}");
        let before = trial.journaled();
        if trial.is_held() {
            trial.begin_anew();
        } else if before > 0 {
            halfway += 1;
        }
    }
    assert!(halfway > 0, "no seed of {SEEDS} died halfway");
    let folder = trial.site.path("state/run");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let mut agent = Agent::start(&trial);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "its own user's alone");
    let (code, said) = run(&mut trial.command());
    assert_eq!((code, &said["byAgent"]), (0, &json!(true)), "{said}");
    agent.kill();
    assert!(trial.is_held());
    // It knows what it holds when it comes back.
    let mut agent = Agent::start(&trial);
    let (_, said) = run(&mut trial.command());
    assert_eq!(said["versions"][0]["alreadyThere"], true, "{said}");
    agent.kill();
}
