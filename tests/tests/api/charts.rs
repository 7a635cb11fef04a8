//! The charts, without a cluster: lint, rendering with every example of values, and what the schema and the templates
//! refuse, in which words.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nave_agent::config::{
    ColdFile, Config, ConfigFile, FilesFile, HookFile, Overrides, PeerFile, RuntimesFile, StorageFile,
};
use nave_tests::Tools;

const CHARTS: [&str; 2] = ["nave-operator", "nave-agent"];
/// The values that an agent cannot do without.
const AGENT: &str = "hub.address=hub:7443,cluster.name=a12,\
    hub.caHash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Values that are refused, and words of the message.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("nave-operator", "replicas=-1", &["/replicas", "minimum"]),
    ("nave-operator", "replicas=two", &["/replicas", "want integer"]),
    ("nave-operator", "replica=2", &["additional properties 'replica' not allowed"]),
    ("nave-operator", "hub.adress=h:1", &["/hub", "additional properties 'adress' not allowed"]),
    ("nave-operator", "hub.address=https://h:1", &["hub.address: \"https://h:1\" is not host:port"]),
    ("nave-operator", "hub.address=h", &["hub.address: \"h\" is not host:port"]),
    ("nave-operator", "hub.heartbeat=15", &["/hub/heartbeat", "want string"]),
    ("nave-operator", "hub.gracePeriod=soon", &["/hub/gracePeriod", "'soon'"]),
    ("nave-operator", "hub.serverNames={h:7443}", &["/hub/serverNames/0", "'h:7443'"]),
    ("nave-operator", "hub.logFormat=xml", &["/hub/logFormat", "'json', 'text'"]),
    ("nave-operator", "image.digest=latest", &["/image/digest", "sha256:"]),
    ("nave-operator", "service.type=External", &["/service/type", "'LoadBalancer'"]),
    ("nave-operator", "service.port=70000", &["/service/port", "maximum"]),
    ("nave-operator", "rbac.modelNamespaces={Vision}", &["/rbac/modelNamespaces/0", "'Vision'"]),
    ("nave-operator", "podDisruptionBudget.maxUnavailable=0", &["/podDisruptionBudget/maxUnavailable"]),
    ("nave-operator", "networkPolicy.spokeCidrs={all}", &["/networkPolicy/spokeCidrs/0", "'all'"]),
    ("nave-operator", "resources.limits.memory=lots", &["/resources/limits/memory", "'lots'"]),
    ("nave-operator", "podLabels.tier=1", &["/podLabels/tier", "want string"]),
    ("nave-agent", "hub.address=", &["hub.address: required", "kubectl nave token create"]),
    ("nave-agent", "hub.address=hub/x", &["hub.address: \"hub/x\" is not host:port"]),
    ("nave-agent", "hub.caHash=", &["hub.caHash: required"]),
    ("nave-agent", "hub.caHash=abc", &["/hub/caHash", "sha256:"]),
    ("nave-agent", "cluster.name=", &["cluster.name: required"]),
    ("nave-agent", "cluster.name=Bridge_A12", &["/cluster/name", "'Bridge_A12'"]),
    ("nave-agent", "joinToken.value=short", &["/joinToken/value", "'short'"]),
    (
        "nave-agent",
        "joinToken.value=abcd1234.0123456789abcdefghijklmnopqrstuv,joinToken.existingSecret=x",
        &["joinToken: give value or existingSecret, not both"],
    ),
    ("nave-agent", "store.type=nfs", &["/store/type", "'hostPath'"]),
    ("nave-agent", "store.type=hostPath", &["store.hostPath.path: required"]),
    ("nave-agent", "store.size=big", &["/store/size", "'big'"]),
    ("nave-agent", "store.quota=some", &["/store/quota", "'some'"]),
    ("nave-agent", "store.highWatermark=101", &["/store/highWatermark", "maximum"]),
    ("nave-agent", "store.cold.type=tape", &["/store/cold/type", "'hostPath'"]),
    ("nave-agent", "store.cold.type=hostPath", &["store.cold.hostPath.path: required"]),
    ("nave-agent", "store.cold.quota=some", &["/store/cold/quota", "'some'"]),
    ("nave-agent", "store.cold.lowWatermark=-1", &["/store/cold/lowWatermark", "minimum"]),
    ("nave-agent", "runtimes.files=null", &["runtimes: both are null"]),
    ("nave-agent", "runtimes.hook.timeout=1m", &["runtimes.hook: give either command or url"]),
    ("nave-agent", "runtimes.hook.url=ftp://x", &["/runtimes/hook/url"]),
    ("nave-agent", "bundleTrust.pem=key", &["/bundleTrust/pem", "'key'"]),
    (
        "nave-agent",
        "s3Ca.pem=-----BEGIN CERTIFICATE-----,s3Ca.existingConfigMap=x",
        &["s3Ca: give pem or existingConfigMap, not both"],
    ),
    ("nave-agent", "s3Ca.pem=-----BEGIN PUBLIC KEY-----", &["/s3Ca/pem"]),
    ("nave-agent", "labels.line=3", &["/labels/line", "want string"]),
    ("nave-agent", "maxConcurrentRanges=0", &["/maxConcurrentRanges", "minimum"]),
    ("nave-agent", "replicas=2", &["additional properties 'replicas' not allowed"]),
];

#[test]
fn api_charts_lint_with_every_example_of_values() {
    for chart in CHARTS {
        let mut values = vec![None];
        values.extend(examples(chart).into_iter().map(Some));
        assert!(values.len() > 3, "{chart} has examples of values");
        for file in values {
            let mut words = vec!["lint", "--strict", chart];
            let text = file.as_ref().map(|path| path.display().to_string());
            words.extend(text.iter().flat_map(|path| ["--values", path.as_str()]));
            let output = helm(&words);
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn api_charts_refuse_bad_values_by_name() {
    for (chart, values, words) in REFUSED {
        let mut command = vec!["template", "r", chart];
        if *chart == "nave-agent" {
            command.extend(["--set", AGENT]);
        }
        let output = helm(&[&command[..], &["--set", values]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{chart} takes {values}");
        for word in *words {
            assert!(said.contains(word), "{chart} with {values} does not say {word:?}: {said}");
        }
    }
}

#[test]
fn api_charts_pods_are_never_root_and_never_write_their_root() {
    for chart in CHARTS {
        for file in examples(chart) {
            let path = file.display().to_string();
            let output = helm(&["template", "r", chart, "--values", &path]);
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            for pod in pods(&String::from_utf8_lossy(&output.stdout)) {
                assert_restricted(&pod, &path);
            }
        }
    }
}

#[test]
fn api_charts_agents_are_configured_as_they_understand_it() {
    for file in examples("nave-agent") {
        let path = file.display().to_string();
        let output = helm(&["template", "r", "nave-agent", "--values", &path]);
        let rendered = String::from_utf8_lossy(&output.stdout).into_owned();
        let configuration =
            documents(&rendered).into_iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let written = configuration["data"]["agent.yaml"].as_str().unwrap();
        let read: ConfigFile =
            serde_yaml::from_str(written).unwrap_or_else(|error| panic!("{path}: {error}"));
        let config =
            Config::new(read, Overrides::default()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mounts = pods(&rendered)[0]["containers"][0]["volumeMounts"].clone();
        let is_mounted = mounts.as_sequence().unwrap().iter().any(|mount| mount["name"] == "cold");
        assert_eq!(config.cold.is_some(), is_mounted, "{path}");
        let Some(cold) = config.cold.filter(|_| path.ends_with("cold-tier.yaml")) else { continue };
        assert_eq!((cold.quota, cold.high, cold.low), (Some(1900 << 30), 95, 70), "{path}");
        let set = documents(&rendered).into_iter().find(|object| object["kind"] == "StatefulSet").unwrap();
        let claims = set["spec"]["volumeClaimTemplates"].as_sequence().unwrap();
        let size = |claim: &serde_yaml::Value| claim["spec"]["resources"]["requests"]["storage"].clone();
        assert_eq!(claims.iter().map(size).collect::<Vec<_>>(), ["60Gi", "2Ti"], "{path}");
    }
}

/// What the profile `restricted` of the Pod Security Standards asks for, and a root file system that is not writable.
fn assert_restricted(pod: &serde_yaml::Value, of: &str) {
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true, "{of}");
    assert_eq!(context["runAsUser"], 65532, "{of}");
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{of}");
    for container in pod["containers"].as_sequence().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{of}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{of}");
        assert_eq!(context["capabilities"]["drop"][0], "ALL", "{of}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{of}");
        assert!(container["livenessProbe"].is_mapping() && container["readinessProbe"].is_mapping(), "{of}");
    }
}

/// Each field of the agent's configuration has a value: a new one that has none does not compile here, or is missing.
#[test]
fn api_chart_of_the_agent_can_say_everything_that_its_configuration_can() {
    let values = chart("nave-agent").join("ci/everything.yaml").display().to_string();
    let output = helm(&["template", "r", "nave-agent", "--values", &values]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = documents(&String::from_utf8_lossy(&output.stdout));
    let map = rendered.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    let config: ConfigFile = serde_yaml::from_str(map["data"]["agent.yaml"].as_str().unwrap()).unwrap();
    let ConfigFile {
        hub,
        cluster,
        ca_hash,
        join_token_file,
        state_dir,
        http_listen,
        labels,
        facts,
        max_concurrent_ranges,
        s3_ca_file,
        bundle_trust_file,
        runtimes,
        storage: StorageFile { quota, high_watermark, low_watermark, cold },
        peer,
    } = &config;
    let texts = [hub, cluster, ca_hash, http_listen, quota];
    assert!(texts.into_iter().all(Option::is_some), "{config:?}");
    let paths = [join_token_file, state_dir, s3_ca_file, bundle_trust_file];
    assert!(paths.into_iter().all(Option::is_some), "{config:?}");
    assert!(!labels.is_empty() && !facts.is_empty() && max_concurrent_ranges.is_some(), "{config:?}");
    assert!(high_watermark.is_some() && low_watermark.is_some(), "{config:?}");
    let ColdFile { dir, quota, high_watermark, low_watermark } = cold.as_ref().unwrap();
    assert!(dir.is_absolute() && quota.is_some(), "{config:?}");
    assert!(high_watermark.is_some() && low_watermark.is_some(), "{config:?}");
    let PeerFile { listen, advertise } = peer.as_ref().unwrap();
    assert!(!listen.is_empty() && advertise.is_some(), "{config:?}");
    let RuntimesFile { files, hook } = runtimes.as_ref().unwrap();
    let FilesFile { dir } = files.as_ref().unwrap();
    // A hook is a command or an address; node-folder.yaml has the other one.
    let HookFile { command, url, health_url, timeout } = hook.as_ref().unwrap();
    assert!(dir.is_some() && command.is_empty() && url.is_some(), "{config:?}");
    assert!(health_url.is_some() && timeout.is_some(), "{config:?}");

    let pod = pods(&String::from_utf8_lossy(&output.stdout)).remove(0);
    for file in [join_token_file, s3_ca_file, bundle_trust_file] {
        let source = mounted(&pod, file.as_ref().unwrap());
        let own = source["configMap"]["name"] == map["metadata"]["name"];
        let key = source["key"].as_str().unwrap();
        assert!(!own || map["data"][key].as_str().unwrap().contains("BEGIN PUBLIC KEY"), "{file:?}");
    }
    assert_eq!(mounted(&pod, s3_ca_file.as_ref().unwrap())["configMap"]["name"], "corporate");
    assert_eq!(mounted(&pod, s3_ca_file.as_ref().unwrap())["key"], "root.pem");
}

/// The volume that a file of the pod comes from, with the key that it is under.
fn mounted(pod: &serde_yaml::Value, file: &Path) -> serde_yaml::Value {
    let folder = file.parent().unwrap().to_str().unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_sequence().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == folder).unwrap();
    let mut volumes = pod["volumes"].as_sequence().unwrap().iter();
    let volume = volumes.find(|volume| volume["name"] == mount["name"]).unwrap();
    let source = if volume["secret"].is_mapping() { &volume["secret"] } else { &volume["configMap"] };
    let item = &source["items"][0];
    assert_eq!(item["path"], file.file_name().unwrap().to_str().unwrap(), "{file:?}");
    let mut found = volume.clone();
    found["key"] = item["key"].clone();
    found
}

#[test]
fn api_chart_of_the_hub_carries_the_generated_crds() {
    let (generated, carried) = (checkout().join("crds/yaml"), chart("nave-operator").join("files/crds"));
    if std::env::var_os("UPDATE").is_some() {
        for name in names(&generated) {
            std::fs::copy(generated.join(&name), carried.join(&name)).unwrap();
        }
    }
    assert_eq!(names(&generated), names(&carried), "UPDATE=1 copies them");
    for name in names(&generated) {
        let (one, other) = (read(&generated.join(&name)), read(&carried.join(&name)));
        assert_eq!(one, other, "{name} differs from crds/yaml; UPDATE=1 copies it");
    }
    let output = helm(&["template", "r", "nave-operator", "--show-only", "templates/crds.yaml"]);
    let rendered = documents(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(rendered.len(), names(&generated).len());
    for crd in rendered {
        assert_eq!(crd["kind"], "CustomResourceDefinition");
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        let source: serde_yaml::Value =
            serde_yaml::from_str(&read(&generated.join(format!("{name}.yaml")))).unwrap();
        assert_eq!(crd["spec"], source["spec"], "{name} is rendered as it was generated");
    }
}

fn pods(rendered: &str) -> Vec<serde_yaml::Value> {
    let templates = documents(rendered).into_iter().map(|object| object["spec"]["template"]["spec"].clone());
    templates.filter(serde_yaml::Value::is_mapping).collect()
}

fn documents(text: &str) -> Vec<serde_yaml::Value> {
    use serde::Deserialize;
    let all =
        serde_yaml::Deserializer::from_str(text).map(|one| serde_yaml::Value::deserialize(one).unwrap());
    all.filter(serde_yaml::Value::is_mapping).collect()
}

fn helm(words: &[&str]) -> Output {
    let program = Tools::load().unwrap().fetched("helm").unwrap();
    Command::new(program).current_dir(checkout().join("charts")).args(words).output().unwrap()
}

fn examples(name: &str) -> Vec<PathBuf> {
    let folder = chart(name).join("ci");
    names(&folder).into_iter().map(|file| folder.join(file)).collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn chart(name: &str) -> PathBuf {
    checkout().join("charts").join(name)
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
