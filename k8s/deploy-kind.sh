#!/usr/bin/env bash
# ray-history with KubeRay, MinIO and two Ray clusters, in a kind cluster on this machine.
#
#   k8s/deploy-kind.sh up [OVERLAY]    make it, or bring it up to date: what is there already stays (kind, kind-nats)
#   k8s/deploy-kind.sh down            delete the kind cluster, and with it all that was kept in it
#
# Only ever touches the kind cluster of that name, whatever kubectl's current context is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CLUSTER=${KIND_CLUSTER:-ray-history}
NAMESPACE=ray-history
CONTEXT=kind-$CLUSTER
KUBERAY_CHARTS=https://ray-project.github.io/kuberay-helm/
KUBERAY_VERSION=1.5.0
RAY_VERSIONS=${RAY_VERSIONS-2.60.0} # whose dashboard pages are in the image
TIMEOUT=${TIMEOUT:-15m}             # Ray's image is large: the first time, most of it is the download

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'deploy-kind: %s\n' "$*" >&2; exit 1; }
kube() { kubectl --context "$CONTEXT" --namespace "$NAMESPACE" "$@"; }
secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

need() { # TOOL WHERE: so that all that are absent are said at once
  command -v "$1" >/dev/null || absent+="${absent:+, }$1 ($2)"
}

check_tools() {
  local absent=""
  need docker https://docs.docker.com/get-docker
  need kind https://kind.sigs.k8s.io
  need kubectl https://kubernetes.io/docs/tasks/tools
  need helm https://helm.sh/docs/intro/install
  [ -z "$absent" ] || fail "needs on the PATH: $absent"
  docker info >/dev/null 2>&1 || fail "docker doesn't answer: is it running, and may you use it?"
}

make_cluster() {
  if kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
    say "kind cluster $CLUSTER is there"
  else
    say "making kind cluster $CLUSTER"
    kind create cluster --name "$CLUSTER" --config k8s/overlays/kind/cluster.yaml --wait 5m
  fi
}

build_image() { # its tag says what is in it, so that a new image is a new rollout
  say "building the image"
  docker build --file k8s/images/Dockerfile --build-arg "RAY_VERSIONS=$RAY_VERSIONS" --tag ray-history:dev .
  local id
  id=$(docker image inspect --format '{{.Id}}' ray-history:dev)
  id=${id#sha256:}
  IMAGE=ray-history:${id:0:12}
  docker tag ray-history:dev "$IMAGE"
  kind load docker-image "$IMAGE" --name "$CLUSTER"
}

install_kuberay() {
  say "KubeRay $KUBERAY_VERSION"
  helm upgrade --install kuberay-operator kuberay-operator --repo "$KUBERAY_CHARTS" --version "$KUBERAY_VERSION" \
    --kube-context "$CONTEXT" --namespace kuberay-system --create-namespace --wait --timeout 5m
}

make_secret() { # NAME KEY=VALUE…: made once, with what was drawn then, and never printed
  local name=$1
  shift
  [ -n "$(kube get secret "$name" --ignore-not-found --output name)" ] && return
  printf '%s\n' "$@" | kube create secret generic "$name" --from-env-file=/dev/stdin
}

apply() { # OVERLAY
  say "applying k8s/overlays/$1"
  kube apply --filename k8s/overlays/kind/namespace.yaml
  make_secret ray-history-s3 "AWS_ACCESS_KEY_ID=$(secret)" "AWS_SECRET_ACCESS_KEY=$(secret)"
  make_secret ray-history-tokens "push-token=$(secret)"
  kube delete job minio-bucket --ignore-not-found # a Job can't be changed, and it does no harm to make a bucket again
  kubectl kustomize "k8s/overlays/$1" | sed "s|image: ray-history:dev\$|image: $IMAGE|" | kube apply --filename -
}

wait_until_ready() {
  say "waiting until all is ready"
  local each
  for each in $(kube get statefulset,deployment --output name); do
    kube rollout status "$each" --timeout "$TIMEOUT"
  done
  kube wait --for=condition=Complete job/minio-bucket --timeout "$TIMEOUT"
  kube wait --for=condition=HeadPodReady raycluster/demo --timeout "$TIMEOUT"
}

say_what_now() {
  say "ready. In another terminal:"
  cat <<TEXT
  kubectl --context $CONTEXT --namespace $NAMESPACE port-forward service/ray-history 8080:8080

Then http://localhost:8080/ lists the sessions, a RayJob's among them that ends by itself in a minute or two, and its cluster with it:

  kubectl --context $CONTEXT --namespace $NAMESPACE get rayjob,raycluster
  curl -s localhost:8080/clusters
  name=\$(kubectl --context $CONTEXT --namespace $NAMESPACE get rayjob sample --output jsonpath='{.status.rayClusterName}')
  ray list tasks --address http://localhost:8080/sessions/$NAMESPACE/\$name/latest

Gone again: make undeploy-kind. More: docs/kubernetes.md
TEXT
}

case "${1:-}" in
  up)
    overlay=${2:-kind}
    case "$overlay" in kind | kind-nats) ;; *) fail "no overlay for kind: $overlay (kind, kind-nats)" ;; esac
    check_tools
    make_cluster
    build_image
    install_kuberay
    apply "$overlay"
    wait_until_ready
    say_what_now
    ;;
  down)
    command -v kind >/dev/null || fail "needs on the PATH: kind (https://kind.sigs.k8s.io)"
    kind delete cluster --name "$CLUSTER"
    ;;
  *) fail "say up or down" ;;
esac
