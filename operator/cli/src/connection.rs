//! Which cluster and which namespace: the flags that kubectl has too.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
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
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let error = match kubeconfig {
            Ok(kubeconfig) => {
                let contexts = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
                match Config::from_custom_kubeconfig(kubeconfig, &options).await {
                    Ok(config) => return Ok(config),
                    Err(error) => unknown_context(error, contexts),
                }
            }
            Err(error) => error.into(),
        };
        // In a pod there is none, and the ServiceAccount does, unless a file or a context was asked for by name.
        if self.kubeconfig.is_some() || self.context.is_some() {
            return Err(error);
        }
        Config::incluster().map_err(|_| error)
    }
}

/// Says which contexts there are where the one that was asked for is not among them.
fn unknown_context(error: KubeconfigError, mut contexts: Vec<String>) -> anyhow::Error {
    let KubeconfigError::LoadContext(name) = &error else { return error.into() };
    contexts.sort_unstable();
    if contexts.is_empty() {
        return anyhow::anyhow!("no context is called {name}: there is none at all");
    }
    anyhow::anyhow!("no context is called {name}; there are: {}", contexts.join(", "))
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
