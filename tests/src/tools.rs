//! Where the programs are that the harness starts: our own beside the running binary, everybody else's where
//! tests/setup.sh put them.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Paths of programs.
#[derive(Clone, Debug)]
pub struct Tools {
    fetched: BTreeMap<String, PathBuf>,
    ours: PathBuf,
}

impl Tools {
    /// Reads what tests/setup.sh wrote.
    ///
    /// # Errors
    /// There is no such file: the set-up was not run.
    pub fn load() -> anyhow::Result<Self> {
        let list = cache()?.join("tools.env");
        let text = std::fs::read_to_string(&list)
            .with_context(|| format!("reading {}; run tests/setup.sh first", list.display()))?;
        let fetched = text
            .lines()
            .filter_map(|line| line.strip_prefix("NAVE_TOOL_")?.split_once('='))
            .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
            .collect();
        Ok(Self { fetched, ours: folder_of_ours()? })
    }

    /// A program or folder that tests/setup.sh provides, by its name there.
    ///
    /// # Errors
    /// It was not asked for yet; the error names the command that does.
    pub fn fetched(&self, name: &str) -> anyhow::Result<PathBuf> {
        let key = name.to_uppercase().replace('-', "_");
        let path = self.fetched.get(&key).filter(|path| path.exists());
        let path =
            path.with_context(|| format!("there is no {name} in the cache; run tests/setup.sh {name}"))?;
        Ok(path.clone())
    }

    /// One of our own binaries, of the same build as the running one.
    ///
    /// # Errors
    /// It was not built.
    pub fn ours(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.ours.join(name);
        anyhow::ensure!(path.exists(), "{} is not built; run cargo build --workspace --bins", path.display());
        Ok(path)
    }

    /// The folder that holds our own binaries, `kubectl-nave` among them: on PATH, it makes `kubectl nave` work.
    pub fn folder(&self) -> &Path {
        &self.ours
    }
}

/// The root of the checkout that this was built from.
pub(crate) fn checkout() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    if let Some(folder) = env::var_os("NAVE_CACHE") {
        return Ok(folder.into());
    }
    let home = env::var_os("HOME").context("neither NAVE_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/nave"))
}

/// A test binary is in `deps` below the folder of the binaries, any other is in it.
fn folder_of_ours() -> anyhow::Result<PathBuf> {
    let exe = env::current_exe().context("asking for the path of the running binary")?;
    let folder = exe.parent().with_context(|| format!("{} is in no folder", exe.display()))?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}
