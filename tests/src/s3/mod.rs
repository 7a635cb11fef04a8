//! A real S3 server (SeaweedFS) with random keys, on loopback, in a folder of its own.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use object_store::{
    ObjectStoreExt as _, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use rand::RngExt as _;

use crate::{
    daemon::{Daemon, tail, without_callers_settings},
    eventually::{Progress, eventually},
    ports::free_port_pair,
    tools::Tools,
    use_ring,
};

/// The first PUT works 2 s after the start on idle cores.
const START_LIMIT: Duration = Duration::from_secs(120);
const LOG: &str = "weed.log";

/// The server, ended when dropped unless it is shared.
#[derive(Debug)]
pub struct S3Server {
    endpoint: String,
    access_key: String,
    secret_key: String,
    daemon: Option<Daemon>,
    /// Removed when the server ends.
    sockets: Vec<PathBuf>,
}

impl S3Server {
    /// Starts one with its files in `folder`.
    ///
    /// # Errors
    /// It did not become ready; the error holds the end of its log.
    pub async fn start(tools: &Tools, folder: &Path) -> anyhow::Result<Self> {
        use_ring();
        let port = free_port_pair()?;
        let mut server = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: random_key(10),
            secret_key: random_key(20),
            daemon: None,
            sockets: Vec::new(),
        };
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let identities = folder.join("s3.json");
        std::fs::write(&identities, server.identities().to_string())
            .with_context(|| format!("writing {}", identities.display()))?;
        let ports = Ports::find(port)?;
        server.sockets = ports.sockets();
        server.daemon = Some(run(&tools.fetched("weed")?, folder, &identities, &ports)?);
        server.wait_until_ready(&folder.join(LOG)).await?;
        Ok(server)
    }

    /// The one that `nave-testenv` started for this test run; tests keep apart by bucket.
    ///
    /// # Errors
    /// The tests were not started through `nave-testenv`.
    pub fn shared() -> anyhow::Result<Self> {
        use_ring();
        let read = |name: &str| {
            env::var(name)
                .with_context(|| format!("{name} is not set: run the tests by `make test` or nave-testenv"))
        };
        Ok(Self {
            endpoint: read("NAVE_TEST_S3_ENDPOINT")?,
            access_key: read("NAVE_TEST_S3_ACCESS_KEY")?,
            secret_key: read("NAVE_TEST_S3_SECRET_KEY")?,
            daemon: None,
            sockets: Vec::new(),
        })
    }

    /// The shared one if there is one, else one of the caller's own.
    ///
    /// # Errors
    /// As `start`.
    pub async fn shared_or_start(tools: &Tools, folder: &Path) -> anyhow::Result<Self> {
        match Self::shared() {
            Ok(server) => Ok(server),
            Err(_) => Self::start(tools, folder).await,
        }
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The access key's id.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The access key's secret.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// What `aws`, `s5cmd`, `kubectl nave publish` and `nave-agent pull` read.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ACCESS_KEY_ID", self.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key.clone()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// A client of a bucket. The bucket comes with the first object.
    ///
    /// # Errors
    /// The name is not a bucket's.
    pub fn bucket(&self, name: &str) -> anyhow::Result<Arc<AmazonS3>> {
        self.bucket_at(&self.endpoint, name)
    }

    /// The same, reached by another address: a proxy's.
    ///
    /// # Errors
    /// The name is not a bucket's.
    pub fn bucket_at(&self, endpoint: &str, name: &str) -> anyhow::Result<Arc<AmazonS3>> {
        let store = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_bucket_name(name)
            .build();
        Ok(Arc::new(store.with_context(|| format!("preparing a client of bucket {name}"))?))
    }

    /// Writes one object.
    ///
    /// # Errors
    /// The server refused it.
    pub async fn put(&self, bucket: &str, key: &str, content: impl Into<PutPayload>) -> anyhow::Result<()> {
        let result = self.bucket(bucket)?.put(&Key::parse(key)?, content.into()).await;
        result.map(drop).with_context(|| format!("putting s3://{bucket}/{key}"))
    }

    /// Reads one object.
    ///
    /// # Errors
    /// There is none, or the server failed.
    pub async fn get(&self, bucket: &str, key: &str) -> anyhow::Result<bytes::Bytes> {
        let got = self.bucket(bucket)?.get(&Key::from(key)).await;
        let got = got.with_context(|| format!("getting s3://{bucket}/{key}"))?;
        got.bytes().await.with_context(|| format!("reading s3://{bucket}/{key}"))
    }

    /// Deletes one object.
    ///
    /// # Errors
    /// The server failed.
    pub async fn delete(&self, bucket: &str, key: &str) -> anyhow::Result<()> {
        let result = self.bucket(bucket)?.delete(&Key::from(key)).await;
        result.with_context(|| format!("deleting s3://{bucket}/{key}"))
    }

    fn identities(&self) -> serde_json::Value {
        serde_json::json!({"identities": [{
            "name": "nave",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]})
    }

    /// Ready is when an object that was written can be read: its parts start one after the other.
    async fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let store = self.bucket("readiness")?;
        let key = Key::from("probe");
        let daemon = &mut self.daemon;
        let waited = eventually("the S3 server to take an object", START_LIMIT, || {
            let ended = daemon.as_mut().map_or(Ok(()), Daemon::ensure_running);
            let (store, key) = (Arc::clone(&store), key.clone());
            async move {
                if let Err(error) = ended {
                    return Ok(Progress::Done(Err(error)));
                }
                let attempt = async {
                    store.put(&key, PutPayload::from_static(b"ready")).await?;
                    store.get(&key).await
                };
                // The client's own retries would sit out the start.
                tokio::time::timeout(Duration::from_secs(3), attempt).await??;
                Ok(Progress::Done(Ok(())))
            }
        });
        waited.await.with_context(|| format!("log of the S3 server:\n{}", tail(log, 4096)))?
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.kill();
        }
        for socket in &self.sockets {
            // Not every one of them is made.
            drop(std::fs::remove_file(socket));
        }
    }
}

/// The ports of its parts; each part's gRPC is 10,000 above.
struct Ports([(&'static str, u16); 5]);

impl Ports {
    fn find(s3: u16) -> anyhow::Result<Self> {
        let free = free_port_pair;
        Ok(Self([
            ("s3", s3),
            ("master", free()?),
            ("volume", free()?),
            ("filer", free()?),
            ("admin", free()?),
        ]))
    }

    /// It puts these into /tmp whatever TMPDIR says, and leaves them there when it is killed; and on SIGTERM it takes 13 s.
    fn sockets(&self) -> Vec<PathBuf> {
        let of_part = |(part, port): (&str, u16)| {
            let file = |name: String| Path::new("/tmp").join(name);
            [
                file(format!("seaweedfs-{part}-{port}.sock")),
                file(format!("seaweedfs-{part}-grpc-{}.sock", port + 10_000)),
            ]
        };
        self.0.into_iter().flat_map(of_part).collect()
    }
}

/// The flags: without them it listens on all addresses, sends telemetry and starts servers that nobody asked for.
fn run(weed: &Path, folder: &Path, identities: &Path, ports: &Ports) -> anyhow::Result<Daemon> {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let configure = |command: &mut std::process::Command| {
        without_callers_settings(command);
        // Memory passes 1 GB at objects of 300 MB otherwise.
        command.env("GOMEMLIMIT", "450MiB").current_dir(folder);
        command.arg("-logtostderr=true").arg("mini").arg(format!("-dir={}", data.display()));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false"]);
        command.args(["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        // Every bucket takes at least one volume. Left alone, it allows one volume per GiB of free disk, and on a
        // machine with 20 GiB free the 21st bucket's first upload is an InternalError.
        command.args(["-volume.max=10000", "-master.volumeSizeLimitMB=1024"]);
        command.arg(format!("-s3.config={}", identities.display()));
        for (part, port) in ports.0 {
            command.arg(format!("-{part}.port={port}"));
        }
    };
    Daemon::start("the S3 server", weed, configure, &folder.join(LOG))
}

fn random_key(bytes: usize) -> String {
    let mut key = vec![0_u8; bytes];
    rand::rng().fill(&mut key[..]);
    hex::encode(key)
}
