//! `token create`: a Secret with a hash, and the token itself, shown once.

use std::{collections::BTreeMap, io::Write};

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{
    Api,
    api::{ListParams, ObjectMeta, PostParams},
};
use nave_crds::join_token::{self, JoinToken};
use nave_names::ClusterName;
use rand::RngExt as _;
use serde::Serialize;

use super::join::{ANY_ADDRESS, ANY_CLUSTER, Join};
use crate::{
    ca,
    connection::{Connected, Connection},
    failure,
    output::{self, Format},
    time::parse_duration,
};

/// The port of the hub's gateways where an address names none.
const DEFAULT_PORT: u16 = 7443;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Make a token by which spokes join, and print the commands that join one
///
/// The token is shown this once; the hub keeps a hash of it only.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// How long it can be used
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    ttl: SignedDuration,
    /// How many spokes may join with it; 0 = any number
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// The only cluster name that may join with it
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Accept whoever joins with it at once, without `kubectl nave accept`
    #[arg(long)]
    auto_accept: bool,
    /// host:port by which spokes reach the hub; otherwise the hub's Service of type LoadBalancer is asked
    #[arg(long, visible_alias = "hub", value_name = "ADDRESS")]
    hub_address: Option<String>,
    /// Secret with the hub's CA
    #[arg(long, default_value = "nave-ca", value_name = "NAME")]
    ca_secret: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    id: String,
    token: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    auto_accept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_address: Option<String>,
    ca_hash: String,
    helm: String,
    shell: String,
}

impl Create {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        // First what can fail: a token that nobody can use is not left behind.
        let ca_hash = ca::fetch_ca_hash(&hub, &self.ca_secret).await?.to_string();
        let address = match &self.hub_address {
            Some(address) => Some(with_port(address, DEFAULT_PORT)),
            None => fetch_hub_address(&hub).await,
        };
        let expires_at = Timestamp::now()
            .checked_add(self.ttl)
            .context("--ttl is too long")?
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let token = JoinToken::from_parts(
            &random_text(join_token::ID_LENGTH),
            &random_text(join_token::SECRET_LENGTH + 8),
        )?;
        create_secret(&hub, self.secret(&token, &expires_at)).await?;
        let join = Join {
            hub_address: address.as_deref().unwrap_or(ANY_ADDRESS),
            ca_hash: &ca_hash,
            cluster: self.cluster.as_ref().map(ClusterName::as_str),
            token: &token.reveal(),
        };
        let created = Created {
            id: token.id().to_owned(),
            token: token.reveal(),
            expires_at,
            uses: (self.uses > 0).then_some(self.uses),
            cluster: self.cluster.as_ref().map(ToString::to_string),
            auto_accept: self.auto_accept,
            helm: join.helm(),
            shell: join.shell(),
            hub_address: address,
            ca_hash: ca_hash.clone(),
        };
        match self.output {
            Format::Json => output::json(out, &created),
            Format::Table => Ok(created.write(out)?),
        }
    }

    fn secret(&self, token: &JoinToken, expires_at: &str) -> Secret {
        let uses = if self.uses == 0 { String::new() } else { self.uses.to_string() };
        let mut data = BTreeMap::from([
            (join_token::HASH_KEY.to_owned(), token.hash()),
            (join_token::EXPIRES_AT_KEY.to_owned(), expires_at.to_owned()),
            (join_token::USES_KEY.to_owned(), uses),
            (join_token::AUTO_ACCEPT_KEY.to_owned(), self.auto_accept.to_string()),
        ]);
        if let Some(cluster) = &self.cluster {
            data.insert(join_token::CLUSTER_KEY.to_owned(), cluster.to_string());
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(token.secret_name()),
                labels: Some([(join_token::LABEL.to_owned(), "true".to_owned())].into()),
                ..ObjectMeta::default()
            },
            type_: Some(join_token::SECRET_TYPE.to_owned()),
            string_data: Some(data),
            ..Secret::default()
        }
    }
}

impl Created {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let uses = match self.uses {
            None => "any number of uses".to_owned(),
            Some(1) => "one use".to_owned(),
            Some(uses) => format!("{uses} uses"),
        };
        let cluster = self.cluster.as_deref().unwrap_or("any cluster");
        writeln!(out, "Token for {cluster}, {uses}, until {}. It is shown this once:\n", self.expires_at)?;
        writeln!(out, "  {}\n", self.token)?;
        writeln!(out, "Join a Kubernetes cluster:\n\n{}\n", indented(&self.helm))?;
        writeln!(out, "Join a machine:\n\n{}\n", indented(&self.shell))?;
        if !self.auto_accept {
            let name = self.cluster.as_deref().unwrap_or(ANY_CLUSTER);
            writeln!(out, "Accept it once it has joined:\n\n  kubectl nave accept {name}\n")?;
        }
        if self.hub_address.is_none() {
            writeln!(
                out,
                "The hub's address is not known here: put it in for {ANY_ADDRESS}, or name it with --hub-address."
            )?;
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

async fn create_secret(hub: &Connected, secret: Secret) -> anyhow::Result<()> {
    let namespace = hub.hub_namespace();
    let secrets: Api<Secret> = Api::namespaced(hub.client.clone(), namespace);
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .map_err(failure::said)
        .with_context(|| format!("creating the token's Secret in namespace {namespace}"))?;
    Ok(())
}

/// The address at which a load balancer offers the hub's gateways. Someone who may not read Services is told to name it.
async fn fetch_hub_address(hub: &Connected) -> Option<String> {
    let services: Api<Service> = Api::namespaced(hub.client.clone(), hub.hub_namespace());
    let selector = ListParams::default().labels("app.kubernetes.io/name=nave-operator");
    let services = services.list(&selector).await.ok()?;
    services.items.iter().find_map(load_balancer_address)
}

fn load_balancer_address(service: &Service) -> Option<String> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.name.as_deref() == Some("grpc"))?.port;
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?;
    let host = ingress.hostname.as_ref().or(ingress.ip.as_ref())?;
    Some(with_port(host, u16::try_from(port).ok()?))
}

fn with_port(address: &str, port: u16) -> String {
    let host_has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if host_has_port {
        address.to_owned()
    } else if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

fn random_text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_added_where_it_is_missing() {
        for (address, expected) in [
            ("hub.example.com", "hub.example.com:7443"),
            ("hub.example.com:443", "hub.example.com:443"),
            ("192.0.2.1", "192.0.2.1:7443"),
            ("2001:db8::1", "[2001:db8::1]:7443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:7443"),
        ] {
            assert_eq!(with_port(address, 7443), expected);
        }
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        assert_ne!(random_text(40), random_text(40));
    }

    #[test]
    fn what_is_shown_names_token_commands_and_what_is_left_to_do() {
        let created = Created {
            id: "abcd1234".into(),
            token: "abcd1234.s3cret".into(),
            expires_at: "2026-11-25T12:00:00Z".into(),
            uses: Some(1),
            cluster: None,
            auto_accept: false,
            hub_address: None,
            ca_hash: "sha256:aa".into(),
            helm: "helm install \\\n  --set a=b".into(),
            shell: "nave-agent run".into(),
        };
        let mut out = Vec::new();
        created.write(&mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        Token for any cluster, one use, until 2026-11-25T12:00:00Z. It is shown this once:

          abcd1234.s3cret

        Join a Kubernetes cluster:

          helm install \
            --set a=b

        Join a machine:

          nave-agent run

        Accept it once it has joined:

          kubectl nave accept CLUSTER_NAME

        The hub's address is not known here: put it in for HUB_ADDRESS:7443, or name it with --hub-address.
        ");
    }
}
