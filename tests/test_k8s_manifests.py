"""The manifests fit our programs, Ray and each other: options, names, paths, ports, folders, times, who reaches whom."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import click
import pytest
from starlette.routing import Route
from support.manifests import (
    NAMESPACE,
    OVERLAYS,
    Object,
    Pod,
    environment,
    is_ours,
    labels_of,
    named,
    ours,
    overlay,
    pods,
    ray_pods,
)

from api.cli.commands import ray_history
from api.cli.run import GRACE
from api.cli.settings import collector_config, server_config, store_config
from api.health import ROUTES
from pipeline.config import CollectorConfig, ServerConfig
from pipeline.receive.ingest import ingest_app
from pipeline.receive.spool import Spool

SECRETS = {
    "ray-history-s3": {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
    "ray-history-tokens": {"push-token": "said-by-collectors", "read-token": "said-by-readers"},
}
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
RAY_ENDS = 20
"""Seconds that a node of Ray may take to end: `ray start --block` takes two for SIGTERM, its raylet's own limit is ten."""

COLLECTORS = [
    pytest.param(name, pod, one, id=f"{name} {pod.owner}")
    for name in ("kind", "kind-nats")
    for pod, one in ours(overlay(name), "collect")
]
SERVERS = [pytest.param(name, *found, id=name) for name in OVERLAYS for found in ours(overlay(name), "serve")]
OURS = COLLECTORS + SERVERS
PODS = [pytest.param(pod, id=f"{name} {pod.owner}") for name in OVERLAYS for pod in pods(overlay(name))]


def parse(monkeypatch: pytest.MonkeyPatch, objects: list[Object], pod: Pod, container: Object) -> dict[str, object]:
    """The options as the real command line takes them from the container's arguments and environment."""
    labels = labels_of(pod, "demo-abc12")
    monkeypatch.setattr("os.environ", environment(objects, container, SECRETS, labels) | {"HOME": "/nowhere"})
    name, *arguments = container["args"]
    return ray_history.commands[name].make_context(name, arguments).params


def collecting(monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object) -> CollectorConfig:
    options = parse(monkeypatch, overlay(name), pod, container)
    return collector_config(options, store_config(options), Path(str(options["data_dir"])))


def serving(monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object) -> ServerConfig:
    options = parse(monkeypatch, overlay(name), pod, container)
    return server_config(options, store_config(options))


def mounts(container: Object) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}


def volume(pod: Pod, name: str) -> Object:
    return next(one for one in pod.spec["volumes"] if one["name"] == name)


def ray_of(pod: Pod) -> Object:
    return next(one for one in pod.spec["containers"] if one["image"].startswith("rayproject/ray"))


def test_every_node_of_ray_has_a_collector_beside_it() -> None:
    assert [pod.owner for pod in ray_pods(overlay("kind"))] == [
        *("RayCluster/demo head", "RayCluster/demo worker", "RayJob/sample head", "RayJob/sample worker")
    ]
    assert len(COLLECTORS) == 2 * len(ray_pods(overlay("kind")))


@pytest.mark.parametrize(("name", "pod", "container"), OURS)
def test_every_variable_is_one_that_the_command_reads(name: str, pod: Pod, container: Object) -> None:
    known = {each for param in ray_history.commands[container["args"][0]].params for each in param.envvar or ()}
    found = set(environment(overlay(name), container, SECRETS, labels_of(pod, "demo")))
    if container["args"][0] == "serve":
        assert "RAY_HISTORY_STORE" in found
    assert found <= known | AWS


@pytest.mark.parametrize(("name", "pod", "container"), OURS)
def test_nothing_secret_stands_in_an_argument(name: str, pod: Pod, container: Object) -> None:
    assert not [one for one in container["args"] if "token" in one]


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_a_collector_knows_whose_it_is(monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object) -> None:
    config = collecting(monkeypatch, name, pod, container)
    kind, owner = pod.owner.split()[0].split("/")
    assert (config.cluster, config.namespace) == ("demo-abc12", NAMESPACE)
    assert config.role == pod.owner.split()[1]
    assert (config.owner_kind, config.owner_name) == (kind, owner)
    assert config.push_token == "said-by-collectors"


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_the_collector_starts_before_ray_and_ends_after_it(name: str, pod: Pod, container: Object) -> None:
    assert container["restartPolicy"] == "Always"
    assert pod.spec["initContainers"][0] is container


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_nothing_of_the_collector_holds_up_ray(name: str, pod: Pod, container: Object) -> None:
    """A sidecar that isn't started keeps Ray from starting, one that isn't ready takes a head out of its Service."""
    assert not {"startupProbe", "readinessProbe", "lifecycle"} & set(container)
    assert "cpu" not in container["resources"]["limits"]


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_collector_and_ray_share_the_folder_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    shared = set(mounts(container)) & set(mounts(ray_of(pod)))
    assert shared == {"ray-logs"}
    assert mounts(container)["ray-logs"] == mounts(ray_of(pod))["ray-logs"] == str(config.ray_tmp)
    assert volume(pod, "ray-logs")["emptyDir"] == {}
    assert {mount["name"] for mount in container["volumeMounts"] if mount.get("readOnly")} == {"ray-logs"}


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_the_spool_is_on_a_volume_that_never_evicts_the_pod(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    assert PurePosixPath(mounts(container)["ray-history"]) in PurePosixPath(config.data_dir).parents
    assert volume(pod, "ray-history") == {"name": "ray-history", "emptyDir": {}}
    assert config.disk_limit == 1 << 30


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_the_collector_reads_what_ray_writes(name: str, pod: Pod, container: Object) -> None:
    """Ray's own images run as user 1000 in group 100."""
    security = container["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"]) == (1000, 100)


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_ray_posts_to_the_port_at_which_posts_are_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    said = environment(overlay(name), ray_of(pod))
    where = urlsplit(said["RAY_DASHBOARD_AGGREGATOR_AGENT_EVENTS_EXPORT_ADDR"])
    assert (where.hostname, where.port, where.path) == (config.host, config.events_port, "/v1/events")
    assert said["RAY_DASHBOARD_AGGREGATOR_AGENT_EXPOSABLE_EVENT_TYPES"] == "ALL"
    for switch in ("ray_event", "core_worker_ray_event_to_aggregator"):
        assert said[f"RAY_enable_{switch}"] == "true"


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_the_dashboard_is_asked_at_the_port_of_the_head(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    assert config.poll is not None
    if config.role == "head":
        ports = {port["name"]: port["containerPort"] for port in ray_of(pod)["ports"]}
        assert config.poll.dashboard == f"http://127.0.0.1:{ports['dashboard']}"


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_there_is_time_to_store_what_is_left(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    assert pod.spec["terminationGracePeriodSeconds"] >= RAY_ENDS + config.shutdown_budget + 5


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_the_liveness_probe_asks_the_collectors_own_endpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    program = container["livenessProbe"]["exec"]["command"][-1]
    where = re.search(r'HTTPConnection\("(.+?)", (\d+)', program)
    path = re.search(r'"GET", "(.+?)"', program)
    assert where
    assert path
    assert (where[1], int(where[2])) == (config.host, config.events_port)
    paths = {
        route.path for route in ingest_app(Spool(tmp_path, limit_bytes=1 << 20)).routes if isinstance(route, Route)
    }
    assert path[1] in paths


@pytest.mark.parametrize(("name", "pod", "container"), COLLECTORS)
def test_a_collector_pushes_to_the_server_by_its_service(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = collecting(monkeypatch, name, pod, container)
    target = config.push or config.server
    assert target is not None
    assert (config.push is None) == (name == "kind")
    where = urlsplit(target)
    service = named(overlay(name), "Service", str(where.hostname))
    assert where.port in [port["port"] for port in service["spec"]["ports"]]


@pytest.mark.parametrize("name", ["kind", "kind-nats"])
def test_collectors_and_servers_use_the_same_store(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stores = {
        str(store_config(parse(monkeypatch, overlay(name), pod, one)))
        for command in ("collect", "serve")
        for pod, one in ours(overlay(name), command)
    }
    assert len(stores) == 1
    store = store_config(parse(monkeypatch, overlay(name), *ours(overlay(name), "serve")[0]))
    where = urlsplit(str(store.endpoint))
    assert where.port == named(overlay(name), "Service", str(where.hostname))["spec"]["ports"][0]["port"]
    job = named(overlay(name), "Job", "minio-bucket")["spec"]["template"]["spec"]["containers"][0]
    assert job["args"][-1] == f"dev/{urlsplit(store.url).hostname}"
    made = environment(overlay(name), job, SECRETS)
    assert made["MC_HOST_dev"] == f"http://key:secret@{where.netloc}"


@pytest.mark.parametrize(("name", "pod", "container"), SERVERS)
def test_the_server_answers_where_its_service_and_probes_ask(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = serving(monkeypatch, name, pod, container)
    assert config.host == "0.0.0.0"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.port}
    service = named(overlay(name), "Service", "ray-history")["spec"]
    assert service["ports"][0]["targetPort"] == "http"
    assert service["selector"].items() <= pod.metadata["labels"].items()
    paths = {route.path for route in ROUTES}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert {"/livez", "/readyz", pod.metadata["annotations"]["prometheus.io/path"]} <= paths
    assert int(pod.metadata["annotations"]["prometheus.io/port"]) == config.port


@pytest.mark.parametrize(("name", "pod", "container"), SERVERS)
def test_the_server_has_time_to_end_and_memory_for_what_it_keeps(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = serving(monkeypatch, name, pod, container)
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod.spec["terminationGracePeriodSeconds"] >= sleep + GRACE + 10
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert config.cache_bytes + config.live_bytes <= 0.6 * (2 << 30)


@pytest.mark.parametrize(("name", "pod", "container"), SERVERS)
def test_tokens_come_from_a_secret_and_may_be_absent(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    config = serving(monkeypatch, name, pod, container)
    assert config.push_token == "said-by-collectors"
    assert len(config.tokens) == 1
    without = environment(overlay(name), container)
    assert "RAY_HISTORY_TOKEN" not in without
    assert "RAY_HISTORY_PUSH_TOKEN" not in without


@pytest.mark.parametrize(("name", "pod", "container"), SERVERS)
def test_one_server_without_nats_and_several_with_it(
    monkeypatch: pytest.MonkeyPatch, name: str, pod: Pod, container: Object
) -> None:
    """Collectors that push over HTTP reach one of several only."""
    config = serving(monkeypatch, name, pod, container)
    replicas = named(overlay(name), "Deployment", "ray-history")["spec"]["replicas"]
    assert (replicas > 1) == (config.live is not None) == (name == "kind-nats")
    assert config.live == named(overlay(name), "ConfigMap", "ray-history-collector")["data"].get("RAY_HISTORY_PUSH")


@pytest.mark.parametrize("pod", PODS)
def test_every_image_is_pinned(pod: Pod) -> None:
    for container in pod.containers():
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        assert tag
        assert tag != "latest"
        assert is_ours(container) or re.search(r"\d+\.\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\d", tag)


@pytest.mark.parametrize("pod", PODS)
def test_nothing_but_ray_may_do_more_than_it_needs(pod: Pod) -> None:
    for container in pod.containers():
        if container["image"].startswith("rayproject/"):
            continue
        security = pod.spec.get("securityContext", {}) | container["securityContext"]
        assert security["runAsNonRoot"]
        assert security["runAsUser"] > 0
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        if not container["image"].startswith("quay.io/minio/minio:"):
            assert security["readOnlyRootFilesystem"]
    if not pod.owner.startswith("Ray"):
        assert pod.spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("name", "pod", "container"), SERVERS)
def test_kubernetes_sets_none_of_the_servers_variables(name: str, pod: Pod, container: Object) -> None:
    """For a Service ``ray-history`` it sets RAY_HISTORY_PORT and more, unless it is told not to."""
    assert pod.spec["enableServiceLinks"] is False


def admitted(policy: Object, labels: dict[str, str], namespace: dict[str, str], own: bool) -> list[Object]:
    """The ports at which the policy lets in a pod with ``labels`` from a namespace with those labels."""
    ports: list[Object] = []
    for rule in policy["spec"]["ingress"]:
        for peer in rule["from"]:
            there = peer.get("namespaceSelector")
            fits = own if there is None else matches(there, namespace)
            if fits and matches(peer.get("podSelector", {}), labels):
                ports += rule["ports"]
    return ports


def matches(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


@pytest.mark.parametrize("name", OVERLAYS)
def test_collectors_of_every_namespace_reach_the_server_and_strangers_do_not(name: str) -> None:
    policy = named(overlay(name), "NetworkPolicy", "ray-history")
    server = ours(overlay(name), "serve")[0][0]
    assert matches(policy["spec"]["podSelector"], server.metadata["labels"])
    ray = labels_of(Pod("RayCluster/x worker", {}, {}), "x")
    assert [port["port"] for port in admitted(policy, ray, {}, False)] == ["http"]
    assert not admitted(policy, {"app": "any"}, {}, True)
    assert admitted(policy, {"app": "ingress"}, {"ray-history/reader": "true"}, False)


def test_nats_is_reached_by_collectors_and_servers_only() -> None:
    objects = overlay("kind-nats")
    policy = named(objects, "NetworkPolicy", "ray-history-nats")
    nats = next(pod for pod in pods(objects) if pod.owner == "StatefulSet/ray-history-nats")
    assert matches(policy["spec"]["podSelector"], nats.metadata["labels"])
    server = ours(objects, "serve")[0][0].metadata["labels"]
    ray = labels_of(Pod("RayCluster/x worker", {}, {}), "x")
    assert [port["port"] for port in admitted(policy, server, {}, True)] == ["nats"]
    assert [port["port"] for port in admitted(policy, ray, {}, False)] == ["nats"]
    assert not admitted(policy, {"app": "any"}, {}, True)
    assert not admitted(policy, server, {}, False)


def test_a_drain_is_never_held_up() -> None:
    for name in OVERLAYS:
        budget = named(overlay(name), "PodDisruptionBudget", "ray-history")["spec"]
        assert budget["maxUnavailable"] == 1
        assert (
            budget["selector"]["matchLabels"].items() <= ours(overlay(name), "serve")[0][0].metadata["labels"].items()
        )


def test_the_job_runs_the_file_that_is_mounted() -> None:
    objects = overlay("kind")
    job = named(objects, "RayJob", "sample")
    head = next(pod for pod in ray_pods(objects) if pod.owner == "RayJob/sample head")
    mount = mounts(ray_of(head))["job"]
    files = named(objects, "ConfigMap", volume(head, "job")["configMap"]["name"])["data"]
    assert job["spec"]["entrypoint"].split() == ["python", f"{mount}/{next(iter(files))}"]
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert "/tmp/ray" not in mount


def test_production_is_told_what_to_change_and_holds_no_cluster_and_no_secret() -> None:
    kinds = {one["kind"] for one in overlay("s3")}
    assert not kinds & {"Secret", "RayCluster", "RayJob", "StatefulSet", "Namespace"}
    images = {one["image"] for pod in pods(overlay("s3")) for one in pod.containers()}
    assert images == {"registry.example.com/ray-history:0.1.0"}


def test_no_overlay_holds_a_secret() -> None:
    assert not [one for name in OVERLAYS for one in overlay(name) if one["kind"] == "Secret"]


def test_an_unknown_option_in_a_manifest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name, pod, container = COLLECTORS[0].values
    wrong = container | {"args": [*container["args"], "--segment-aeg=3s"]}  # type: ignore[operator]
    with pytest.raises(click.NoSuchOption):
        parse(monkeypatch, overlay(str(name)), pod, wrong)  # type: ignore[arg-type]
