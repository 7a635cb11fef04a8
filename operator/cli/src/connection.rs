//! Which cluster and which namespace: the flags that kubectl has too.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Where the hub and its CA, tokens and Leases live unless it was installed elsewhere.
pub(crate) const HUB_NAMESPACE: &str = "nave-system";

/// How to reach the API server.
#[derive(Debug, Default, Args)]
pub(crate) struct Connection {
    /// Path of the kubeconfig; otherwise KUBECONFIG, then ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace; for tokens the hub's (nave-system unless said), otherwise the context's
    #[arg(short, long, global = true)]
    namespace: Option<String>,
}

/// A client, and the namespace that the kubeconfig names.
pub(crate) struct Connected {
    pub(crate) client: Client,
    default_namespace: String,
    namespace: Option<String>,
}

impl Connection {
    /// Reads the kubeconfig. Nothing is sent yet.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connected> {
        let config = self.config().await.context("reading the kubeconfig")?;
        let default_namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("preparing a connection to the API server")?;
        Ok(Connected { client, default_namespace, namespace: self.namespace.clone() })
    }

    /// The namespace that the user named, for verbs that read no kubeconfig.
    pub(crate) fn namespace_flag(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        if let Some(path) = &self.kubeconfig {
            let kubeconfig = Kubeconfig::read_from(path)?;
            return Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?);
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // In a pod there is none, and the ServiceAccount does, unless a context was asked for by name.
            Err(error) if self.context.is_some() => Err(error.into()),
            Err(error) => Config::incluster().map_err(|_| error.into()),
        }
    }
}

impl Connected {
    /// The namespace of policies and versions.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(&self.default_namespace)
    }

    /// The namespace of policies and versions where the user named one.
    pub(crate) fn named_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The namespace of the hub's own objects.
    pub(crate) fn hub_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(HUB_NAMESPACE)
    }
}
