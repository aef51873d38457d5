"""The manifests as they are applied: rendered by kustomize, with the pods, containers and environments in them.

``environment`` says what Kubernetes would set in a container, from its ConfigMaps, Secrets and the downward API.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support.skips import need

TOP = Path(__file__).resolve().parents[2]
K8S = TOP / "k8s"
SCRIPT = K8S / "deploy-kind.sh"
NAMESPACE = "ray-history"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
IMAGE = "ray-history"

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod template, and whose it is."""

    owner: str
    """``Deployment/ray-history``, ``RayCluster/demo head``"""
    spec: Object
    metadata: Object

    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def container(self, name: str) -> Object:
        return next(one for one in self.containers() if one["name"] == name)


@functools.cache
def rendered(folder: Path) -> str:
    """What ``kubectl kustomize`` prints of a folder. Skips the test where there is neither kubectl nor kustomize."""
    kubectl, alone = shutil.which("kubectl"), shutil.which("kustomize")
    need(kubectl or alone, "needs kubectl or kustomize on the PATH, to render k8s/")
    command = [kubectl, "kustomize"] if kubectl else [str(alone), "build"]
    done = subprocess.run([*map(str, command), str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return done.stdout


def kustomize(folder: Path) -> list[Object]:
    return [each for each in yaml.load_all(rendered(folder), yaml.CSafeLoader) if each]


@functools.cache
def overlay(name: str) -> list[Object]:
    return kustomize(K8S / "overlays" / name)


def named(objects: list[Object], kind: str, name: str) -> Object:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Every pod template, those of Ray clusters among them."""
    for one in objects:
        owner, spec = f"{one['kind']}/{one['metadata']['name']}", one.get("spec", {})
        match one["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                yield _pod(owner, spec["template"])
            case "RayCluster":
                yield from _ray_pods(owner, spec)
            case "RayJob":
                yield from _ray_pods(owner, spec["rayClusterSpec"])


def ray_pods(objects: list[Object]) -> list[Pod]:
    return [pod for pod in pods(objects) if pod.owner.startswith("Ray")]


def _ray_pods(owner: str, cluster: Object) -> Iterator[Pod]:
    yield _pod(f"{owner} head", cluster["headGroupSpec"]["template"])
    for group in cluster["workerGroupSpecs"]:
        yield _pod(f"{owner} worker", group["template"])


def _pod(owner: str, template: Object) -> Pod:
    return Pod(owner, template["spec"], template.get("metadata", {}))


def ours(objects: list[Object], command: str) -> list[tuple[Pod, Object]]:
    """The containers that run ``ray-history collect`` or ``serve``."""
    found = [(pod, one) for pod in pods(objects) for one in pod.containers()]
    return [(pod, one) for pod, one in found if is_ours(one) and one["args"][0] == command]


def is_ours(container: Object) -> bool:
    name: str = container["image"].rpartition(":")[0]
    return name == IMAGE or name.endswith(f"/{IMAGE}")


def labels_of(pod: Pod, cluster: str) -> dict[str, str]:
    """What KubeRay labels a pod with, as far as the manifests read it."""
    return {
        "ray.io/cluster": cluster,
        "ray.io/node-type": "head" if pod.owner.endswith("head") else "worker",
        "ray.io/is-ray-node": "yes",
    }


def environment(
    objects: list[Object],
    container: Object,
    secrets: dict[str, dict[str, str]] | None = None,
    labels: dict[str, str] | None = None,
) -> dict[str, str]:
    """What the container finds set. An absent Secret, or key of one, must be optional."""
    found: dict[str, str] = {}
    secrets = secrets or {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            reference = source["secretRef"]
            assert reference["name"] in secrets or reference.get("optional")
            found |= secrets.get(reference["name"], {})
    for variable in container.get("env", []):
        value = _value(variable, secrets, labels or {})
        if value is not None:
            found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
    return found


def _value(variable: Object, secrets: dict[str, dict[str, str]], labels: dict[str, str]) -> str | None:
    if "value" in variable:
        assert isinstance(variable["value"], str), variable
        return str(variable["value"])
    match variable["valueFrom"]:
        case {"fieldRef": {"fieldPath": "metadata.namespace"}}:
            return NAMESPACE
        case {"fieldRef": {"fieldPath": path}}:
            label = re.fullmatch(r"metadata\.labels\['(.+)'\]", path)
            assert label, path
            return labels.get(label[1], "")
        case {"secretKeyRef": reference}:
            value = secrets.get(reference["name"], {}).get(reference["key"])
            assert value is not None or reference.get("optional"), reference
            return value
    raise AssertionError(f"not known: {variable}")
