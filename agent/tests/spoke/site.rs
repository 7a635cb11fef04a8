//! One site: a state folder, a configuration, and agents that are started and stopped on it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

use nave_agent::{
    app::App,
    config::{Config, ConfigFile, Overrides},
};
use nave_names::Digest;
use nave_proto::v1;
use nave_runtime::drain::Drain;

use crate::{
    hub::{Hub, Listening, TOKEN},
    objects::Objects,
};

pub struct Site {
    pub dir: tempfile::TempDir,
    pub hub: Hub,
    pub listening: Option<Listening>,
    pub port: u16,
    pub objects: Objects,
    pub yaml: String,
    pub token: Option<String>,
}

pub struct Agent {
    pub app: Option<App>,
    drain: Drain,
}

impl Site {
    pub async fn new() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider().install_default().ok();
            nave_runtime::telemetry::init(Default::default()).ok();
        });
        let (objects, address) = Objects::serve().await;
        let hub = Hub::new(address);
        let listening = hub.listen(0);
        let port = listening.address.port();
        Self {
            dir: tempfile::tempdir().unwrap(),
            hub,
            listening: Some(listening),
            port,
            objects,
            yaml: String::new(),
            token: Some(TOKEN.to_owned()),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn config(&self) -> Config {
        let file: ConfigFile = match self.yaml.is_empty() {
            true => ConfigFile::default(),
            false => serde_yaml::from_str(&self.yaml).unwrap(),
        };
        let over = Overrides {
            hub: Some(format!("127.0.0.1:{}", self.port)),
            cluster: Some("bridge-a12".into()),
            state_dir: Some(self.state_dir()),
            join_token: self.token.clone(),
            ca_hash: Some(self.hub.ca.hash.to_string()),
            http_listen: Some("127.0.0.1:0".into()),
            ..Overrides::default()
        };
        Config::new(file, over).unwrap()
    }

    pub async fn start(&self) -> Agent {
        self.start_with(self.config()).await
    }

    pub async fn start_with(&self, config: Config) -> Agent {
        let drain = Drain::new();
        let app = App::start(config, None, drain.clone()).await.unwrap();
        Agent { app: Some(app), drain }
    }

    pub fn stop_hub(&mut self) {
        self.listening = None;
    }

    pub fn start_hub(&mut self) {
        self.listening = Some(self.hub.listen(self.port));
    }

    /// Publishes a version of `defects` and gives the entry that serves it.
    pub fn publish(&self, version: &str, bytes: &[u8]) -> v1::DesiredEntry {
        self.publish_as("defects", version, bytes)
    }

    pub fn publish_as(&self, model: &str, version: &str, bytes: &[u8]) -> v1::DesiredEntry {
        let prefix = format!("models/{model}/{version}");
        let files = [("model.bin", bytes.to_vec()), ("sub/labels.txt", version.as_bytes().to_vec())];
        let digest = self.objects.publish(&prefix, &files);
        self.hub.place(digest, &prefix);
        v1::DesiredEntry {
            key: Some(v1::EntryKey {
                namespace: "vision".into(),
                policy: "line".into(),
                model: model.into(),
                version: version.into(),
            }),
            manifest_digest: digest.to_string(),
            action: v1::desired_entry::Action::Serve.into(),
            serving: Some(v1::Serving { runtime: "files".into(), probe_timeout_seconds: 5 }),
            ..v1::DesiredEntry::default()
        }
    }

    pub fn current(&self, model: &str) -> PathBuf {
        self.state_dir().join("models").join(model).join("current")
    }

    /// The bytes that a runtime reads now.
    pub fn served(&self, model: &str) -> Option<Vec<u8>> {
        fs::read(self.current(model).join("model.bin")).ok()
    }
}

pub fn snapshot(generation: u64, entries: &[v1::DesiredEntry]) -> v1::Desired {
    v1::Desired { generation, entries: entries.to_vec(), ..v1::Desired::default() }
}

pub fn digest_of(entry: &v1::DesiredEntry) -> Digest {
    entry.manifest_digest.parse().unwrap()
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(dir) else { return vec![] };
    list.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() { files_below(&path) } else { vec![path] }
    })
    .collect()
}

impl Agent {
    /// As SIGTERM does.
    pub async fn stop(mut self) {
        self.drain.start();
        self.app.take().unwrap().wait().await.unwrap();
    }

    pub async fn ready(&self) -> String {
        self.get("readyz").await
    }

    /// The value of a metric; 0 = it is not shown.
    pub async fn metric(&self, name: &str) -> u64 {
        let shown = self.get("metrics").await;
        let mut values = shown.lines().filter_map(|line| line.strip_prefix(name));
        values.next().map_or(0, |value| value.trim().parse().unwrap())
    }

    async fn get(&self, path: &str) -> String {
        let url = format!("http://{}/{path}", self.app.as_ref().unwrap().addresses.http);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }
}
