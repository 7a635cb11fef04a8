//! `nave-agent pull` from the real S3 server through a proxy that does everything to it that a link, a server or a clock
//! can do, killed with SIGKILL at random moments: two hundred runs, each determined by its seed (but for the machine's own
//! timing). Each ends with the right bytes or with a refusal that has a name; nothing unverified is ever visible; and no more
//! ranges are fetched a second time than there were connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::{StreamExt as _, stream};
use jiff::SignedDuration;
use nave_manifest::{FileHasher, Manifest};
use nave_names::RelativePath;
use nave_tests::{Fault, FaultProxy, Passed, S3Server, Tools, weights};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use tokio::process::Command;

const RUNS: u64 = 200;
/// Runs at a time: most of a run is waiting, for backoffs, stalls and a thin line.
const AT_ONCE: usize = 8;
const BUCKET: &str = "pull-faults";
/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// A version in the bucket.
struct Model {
    prefix: String,
    digest: String,
    /// Path to SHA-256 in hex.
    files: BTreeMap<String, String>,
    large: &'static str,
}

/// What a run does, all of it from its seed.
struct Plan {
    /// Each life but the last is so long.
    lives: Vec<Duration>,
    max_ranges: u32,
    bytes_per_second: u64,
    latency: Duration,
    pins_digest: bool,
    passing: Vec<(Fault, u64, String)>,
    lasting: Option<Lasting>,
}

/// A fault that does not go away, and the refusal that it has to end with.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    fault: Option<Fault>,
    exit: i32,
    reason: &'static str,
    /// What the message has to name.
    names: &'static str,
}

const fn lasting(fault: Fault, exit: i32, reason: &'static str) -> Lasting {
    Lasting { fault: Some(fault), exit, reason, names: ".bin" }
}

const LASTING: [Lasting; 7] = [
    lasting(Fault::FlipAt(0), 3, "DigestMismatch"),
    lasting(Fault::WrongLength, 3, "VersionBroken"),
    lasting(Fault::Status(404), 3, "VersionBroken"),
    lasting(Fault::Forbidden, 4, "AccessDenied"),
    lasting(Fault::Status(500), 5, "SourceUnavailable"),
    lasting(Fault::StallAfter(0), 5, "SourceUnavailable"),
    // No fault: the clock is off by an hour.
    Lasting { fault: None, exit: 4, reason: "AccessDenied", names: "clock" },
];

impl Plan {
    fn of(random: &mut SmallRng, model: &Model) -> Self {
        let mut passing = Vec::new();
        let kinds = [
            Fault::Unavailable,
            Fault::Status(*[500, 502, 504, 429].choose(random).unwrap()),
            Fault::Forbidden,
            Fault::CutAfter(random.random_range(0..3_000_000)),
            Fault::StallAfter(random.random_range(0..3_000_000)),
            Fault::FlipAt(random.random_range(0..1_000_000)),
            Fault::Delay(Duration::from_millis(random.random_range(0..800))),
            Fault::WrongLength,
            Fault::WrongRange,
        ];
        let paths: Vec<_> = model.files.keys().collect();
        for kind in kinds {
            if random.random_bool(0.35) {
                // Heads that lie about a whole object say that it was changed; only ranges are asked for again.
                let ranges_only = matches!(kind, Fault::WrongLength | Fault::WrongRange);
                let path = if ranges_only { model.large } else { paths.choose(random).unwrap().as_str() };
                passing.push((kind, random.random_range(1..=2), format!("{}/{path}", model.prefix)));
            }
        }
        let pins_digest = random.random_bool(0.5);
        if pins_digest && random.random_bool(0.3) {
            passing.push((
                Fault::FlipAt(random.random_range(0..900)),
                1,
                format!("{}/manifest.json", model.prefix),
            ));
        }
        let lives = random.random_range(0..=4);
        Self {
            lives: (0..lives).map(|_| Duration::from_millis(random.random_range(20..600))).collect(),
            max_ranges: *[1, 2, 4, 8].choose(random).unwrap(),
            bytes_per_second: random.random_range(6_000_000..60_000_000),
            latency: Duration::from_millis(random.random_range(0..25)),
            pins_digest,
            passing,
            lasting: random.random_bool(0.2).then(|| *LASTING.choose(random).unwrap()),
        }
    }

    fn apply(&self, proxy: &FaultProxy, model: &Model) {
        proxy.limit(Some(self.bytes_per_second));
        proxy.delay(self.latency);
        for (fault, times, path) in &self.passing {
            proxy.inject(*fault, *times, path);
        }
        match self.lasting {
            Some(Lasting { fault: Some(fault), .. }) => {
                proxy.inject(fault, u64::MAX, &format!("{}/{}", model.prefix, model.large));
            }
            Some(Lasting { fault: None, .. }) => proxy.set_clock_off(SignedDuration::from_hours(1)),
            None => {}
        }
    }
}

/// What is added up over all runs, for the line at the end.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    right: usize,
    refused: BTreeMap<&'static str, usize>,
    faults: u64,
    requests: usize,
    /// Ranges of which something was sent a second time.
    again: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_two_hundred_pulls_through_faults_and_deaths_end_right_or_refused_by_name() -> Result<()> {
    let tools = Tools::load()?;
    let folder = tempfile::tempdir()?;
    let s3 = S3Server::shared_or_start(&tools, &folder.path().join("s3")).await?;
    let models = publish(&s3).await?;
    let agent = tools.ours("nave-agent")?;
    let seeds: Vec<u64> = match std::env::var("NAVE_SEED") {
        Ok(seed) => vec![seed.parse().context("NAVE_SEED is a number")?],
        Err(_) => (0..RUNS).collect(),
    };
    let runs = stream::iter(seeds).map(|seed| {
        let (s3, agent, models) = (&s3, &agent, &models);
        let place = folder.path().join(format!("run-{seed}"));
        async move {
            let done = tokio::time::timeout(LIMIT, run(seed, s3, agent, models, &place)).await;
            let done = done.unwrap_or_else(|_| Err(anyhow!("it hangs")));
            done.map_err(|error| format!("seed {seed} (NAVE_SEED={seed} runs it alone): {error:#}"))
        }
    });
    let all: Vec<_> = runs.buffer_unordered(AT_ONCE).collect().await;
    let wrong: Vec<_> = all.iter().filter_map(|run| run.as_ref().err().cloned()).collect();
    let sum = all.into_iter().flatten().fold(Tally::default(), Tally::plus);
    writeln!(std::io::stderr(), "{sum:?}")?;
    ensure!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

async fn run(seed: u64, s3: &S3Server, agent: &Path, models: &[Model], place: &Path) -> Result<Tally> {
    let mut random = SmallRng::seed_from_u64(seed);
    let model = models.choose(&mut random).context("no model")?;
    let plan = Plan::of(&mut random, model);
    let proxy = FaultProxy::start(s3.endpoint()).await?;
    plan.apply(&proxy, model);
    std::fs::create_dir_all(place)?;
    let to = place.join("model");
    let mut tally = Tally::default();
    let (mut ended, mut deaths) = (None, Vec::new());
    for life in &plan.lives {
        let mut child = pull(agent, s3, &proxy, model, &plan, &to).spawn()?;
        if tokio::time::timeout(*life, child.wait()).await.is_ok() {
            ended = Some(child.wait_with_output().await?);
            break;
        }
        child.kill().await?;
        deaths.push(FaultProxy::next_connection());
        tally.kills += 1;
        only_verified_is_visible(place, &to, model)
            .with_context(|| format!("after {} deaths", tally.kills))?;
    }
    let ended = match ended {
        Some(ended) => ended,
        None => pull(agent, s3, &proxy, model, &plan, &to).output().await?,
    };
    only_verified_is_visible(place, &to, model).context("at the end")?;
    judge(&ended, &to, model, plan.lasting, &mut tally)?;
    let passed: Vec<_> =
        proxy.passed(&model.prefix).into_iter().filter(|one| !one.path.ends_with("manifest.json")).collect();
    tally.again = no_more_again_than_connections(&passed, &deaths, plan.max_ranges)?;
    tally.requests = passed.len();
    tally.faults = proxy.traffic("").faults;
    std::fs::remove_dir_all(place)?;
    Ok(tally)
}

fn pull(agent: &Path, s3: &S3Server, proxy: &FaultProxy, model: &Model, plan: &Plan, to: &Path) -> Command {
    let mut command = Command::new(agent);
    command
        .args(["pull", &format!("s3://{BUCKET}/{}", model.prefix), "-o", "json", "--stall", "1", "--to"])
        .arg(to);
    command.args(["--max-ranges", &plan.max_ranges.to_string()]);
    command.args(["--patience", if plan.lasting.is_some() { "3" } else { "30" }]);
    if plan.pins_digest {
        command.args(["--digest", &model.digest]);
    }
    command.env_clear().envs(s3.environment()).env("AWS_ENDPOINT_URL", proxy.endpoint());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    command
}

/// The folder is not there, or it is there with the right bytes; and what the store of the pull calls a blob is one.
fn only_verified_is_visible(place: &Path, to: &Path, model: &Model) -> Result<()> {
    if to.exists() {
        ensure!(weights::digests(to)? == model.files, "the folder shows other files than the version's");
    }
    let blobs = place.join(".model.nave-store/blobs");
    if blobs.exists() {
        for (path, digest) in weights::digests(&blobs)? {
            ensure!(path.ends_with(&digest), "blob {path} has the digest {digest}");
        }
    }
    Ok(())
}

/// The right bytes, or the refusal that the lasting fault has to end with.
fn judge(
    ended: &Output,
    to: &Path,
    model: &Model,
    lasting: Option<Lasting>,
    tally: &mut Tally,
) -> Result<()> {
    let said = String::from_utf8_lossy(&ended.stdout);
    let Some(expected) = lasting else {
        ensure!(ended.status.success(), "{:?}: {said}", ended.status);
        ensure!(weights::digests(to)? == model.files, "wrong files");
        let json: serde_json::Value = serde_json::from_str(&said)?;
        ensure!(json["digest"] == model.digest, "{said}");
        tally.right += 1;
        return Ok(());
    };
    if ended.status.success() {
        // It had all it needed before the fault could show.
        ensure!(weights::digests(to)? == model.files, "wrong files");
        tally.right += 1;
        return Ok(());
    }
    let json: serde_json::Value = serde_json::from_str(&said).with_context(|| format!("{ended:?}"))?;
    let (reason, message) = (&json["error"]["reason"], json["error"]["message"].as_str().unwrap_or_default());
    ensure!(*reason == expected.reason, "{expected:?} ended as {said}");
    ensure!(ended.status.code() == Some(expected.exit), "{expected:?} ended with {:?}", ended.status);
    ensure!(message.contains(expected.names), "{expected:?} does not name {}: {message}", expected.names);
    ensure!(!to.exists(), "a refused version is visible");
    *tally.refused.entry(expected.reason).or_default() += 1;
    Ok(())
}

/// What was sent again, by whomever: in one life of a pull at most one range of each connection; because of its death at
/// no more places than it fetches from at once (one that has arrived and is being written leaves its connection to the next
/// one, so these two may be of one connection; and a chunk may have come in parts, over several). A range with a wrong byte
/// has to be sent again. `deaths` are the numbers that the next connection had then. Returns how many ranges there were.
fn no_more_again_than_connections(passed: &[Passed], deaths: &[u64], max_ranges: u32) -> Result<usize> {
    let life = |one: &Passed| deaths.partition_point(|next| *next <= one.connection);
    let mut in_life: BTreeMap<u64, Vec<&Passed>> = BTreeMap::new();
    let mut by_death: BTreeMap<usize, Vec<&Passed>> = BTreeMap::new();
    for (at, range) in passed.iter().enumerate().filter(|(_, range)| range.bytes > 0) {
        let overlaps = |later: &&Passed| {
            later.path == range.path
                && later.begin < range.begin + range.bytes
                && range.begin < later.begin + later.bytes
        };
        let wrong = matches!(range.fault, Some(Fault::FlipAt(_)));
        match passed[at + 1..].iter().find(overlaps) {
            Some(again) if !wrong && life(again) == life(range) => {
                in_life.entry(range.connection).or_default().push(range);
            }
            Some(_) if !wrong => by_death.entry(life(range)).or_default().push(range),
            Some(_) | None => {}
        }
    }
    let too_many = in_life.values().find(|ranges| ranges.len() > 1);
    if let Some(ranges) =
        too_many.or_else(|| by_death.values().find(|ranges| places(ranges) > max_ranges as usize))
    {
        let paths: BTreeSet<_> = ranges.iter().map(|one| &one.path).collect();
        let all: Vec<_> = passed.iter().filter(|one| paths.contains(&one.path)).collect();
        anyhow::bail!("{ranges:#?} were sent again, in {all:#?}; the pull died at {deaths:?}");
    }
    Ok(in_life.len() + by_death.values().map(Vec::len).sum::<usize>())
}

/// Ranges that go on where another ends are of one place.
fn places(ranges: &[&Passed]) -> usize {
    let mut ranges: Vec<_> = ranges.iter().map(|one| (&one.path, one.begin, one.begin + one.bytes)).collect();
    ranges.sort_unstable();
    let mut end = None;
    let begins = ranges.into_iter().filter(|(path, begin, until)| {
        let goes_on = end.is_some_and(|(of, end)| of == *path && *begin <= end);
        let so_far = end.filter(|_| goes_on).map_or(0, |(_, end)| end);
        end = Some((*path, so_far.max(*until)));
        !goes_on
    });
    begins.count()
}

/// A few layouts: one large file; large and small; many small ones.
async fn publish(s3: &S3Server) -> Result<Vec<Model>> {
    let layouts: [(&'static str, Vec<(String, usize)>); 3] = [
        ("large.bin", vec![("large.bin".to_owned(), (14 << 20) + 77)]),
        (
            "a.bin",
            [("a.bin".to_owned(), 9 << 20), ("folder/b.bin".to_owned(), (2 << 20) + 5)]
                .into_iter()
                .chain((0..40).map(|n| (format!("small/{n:02}"), 1_000 * n)))
                .collect(),
        ),
        (
            "part.bin",
            std::iter::once(("part.bin".to_owned(), (3 << 20) + 1))
                .chain((0..200).map(|n| (format!("shard/{n:03}"), 20_000 + n)))
                .collect(),
        ),
    ];
    let mut models = Vec::new();
    for (number, (large, layout)) in layouts.into_iter().enumerate() {
        let prefix = format!("{}-{number}", std::process::id());
        let mut random = SmallRng::seed_from_u64(number as u64);
        let (mut entries, mut files) = (Vec::new(), BTreeMap::new());
        for (path, size) in layout {
            let mut bytes = vec![0; size];
            random.fill(&mut bytes[..]);
            let mut hasher = FileHasher::new(RelativePath::new(path.as_str())?);
            hasher.update(&bytes);
            let entry = hasher.finish();
            files.insert(path.clone(), entry.sha256.to_hex());
            entries.push(entry);
            s3.put(BUCKET, &format!("{prefix}/{path}"), bytes).await?;
        }
        let manifest = Manifest::new(entries)?;
        s3.put(BUCKET, &format!("{prefix}/manifest.json"), manifest.to_canonical_bytes()).await?;
        models.push(Model { prefix, digest: manifest.digest().to_string(), files, large });
    }
    Ok(models)
}

impl Tally {
    fn plus(mut self, other: Self) -> Self {
        self.kills += other.kills;
        self.right += other.right;
        self.faults += other.faults;
        self.requests += other.requests;
        self.again += other.again;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self
    }
}
