//! The commands by which a site joins, ready to paste.

/// What a site needs to know to join.
pub(super) struct Join<'a> {
    pub(super) hub_address: &'a str,
    pub(super) ca_hash: &'a str,
    /// None = the site chooses.
    pub(super) cluster: Option<&'a str>,
    pub(super) token: &'a str,
}

/// Stands where the site's name goes.
pub(super) const ANY_CLUSTER: &str = "CLUSTER_NAME";
/// Stands where the hub's address goes, when nobody knows it.
pub(super) const ANY_ADDRESS: &str = "HUB_ADDRESS:7443";

impl Join<'_> {
    fn cluster(&self) -> &str {
        self.cluster.unwrap_or(ANY_CLUSTER)
    }

    /// For a spoke that is a Kubernetes cluster.
    pub(super) fn helm(&self) -> String {
        format!(
            "helm install nave-agent charts/nave-agent --namespace nave-agent --create-namespace \\\n  \
             --set hub.address={} \\\n  --set hub.caHash={} \\\n  --set cluster.name={} \\\n  \
             --set joinToken.value={}",
            self.hub_address,
            self.ca_hash,
            self.cluster(),
            self.token
        )
    }

    /// For a spoke that is a machine. The token goes by the environment: arguments are seen by everyone there.
    pub(super) fn shell(&self) -> String {
        format!(
            "NAVE_JOIN_TOKEN={} nave-agent run --hub {} --ca-hash {} --cluster {} --state-dir /var/lib/nave",
            self.token,
            self.hub_address,
            self.ca_hash,
            self.cluster()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commands_hold_what_joining_takes() {
        let join =
            Join { hub_address: "hub:7443", ca_hash: "sha256:aa", cluster: Some("a12"), token: "id.secret" };
        insta::assert_snapshot!(join.helm(), @r"
        helm install nave-agent charts/nave-agent --namespace nave-agent --create-namespace \
          --set hub.address=hub:7443 \
          --set hub.caHash=sha256:aa \
          --set cluster.name=a12 \
          --set joinToken.value=id.secret
        ");
        insta::assert_snapshot!(join.shell(), @"NAVE_JOIN_TOKEN=id.secret nave-agent run --hub hub:7443 --ca-hash sha256:aa --cluster a12 --state-dir /var/lib/nave");
        let any = Join { cluster: None, ..join };
        assert!(any.shell().contains("--cluster CLUSTER_NAME"));
    }
}
