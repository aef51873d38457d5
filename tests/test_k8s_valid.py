"""Every manifest is one that Kubernetes and KubeRay take, with no field that they would drop without a word."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from support import kuberay
from support.manifests import K8S, OVERLAYS, Object, kustomize, overlay, pods

KUBERNETES = ("1.30", "1.33", "1.37")
"""The oldest that docs/kubernetes.md names, the one that kind makes, the newest that there are schemas of."""


def check(manifest: Object, version: str) -> None:
    if manifest["apiVersion"].startswith("ray.io/"):
        jsonschema.Draft7Validator(kuberay.schema(manifest["kind"])).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_what_an_overlay_makes_is_valid(name: str, version: str) -> None:
    core = [one for one in overlay(name) if not one["apiVersion"].startswith("ray.io/")]
    assert len(core) >= 7
    for manifest in core:
        check(manifest, version)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_pods_of_ray_clusters_are_valid(version: str) -> None:
    """KubeRay copies their templates into pods, and Kubernetes may know more of pods than KubeRay's schema does."""
    for pod in pods(overlay("kind")):
        wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": pod.spec}
        check(wrapped, version)


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_takes_its_own(kind: str) -> None:
    found = [one for one in overlay("kind") if one["kind"] == kind]
    assert found
    for manifest in found:
        check(manifest, "")


def misspelt(manifest: Object, *path: str | int) -> Object:
    changed = copy.deepcopy(manifest)
    at: Any = changed
    for step in path:
        at = at[step]
    at["restartPolicey"] = "Always"
    return changed


@pytest.mark.parametrize(
    "path",
    [
        ("spec",),
        ("spec", "headGroupSpec"),
        ("spec", "headGroupSpec", "template", "spec"),
        ("spec", "headGroupSpec", "template", "spec", "initContainers", 0),
        ("spec", "workerGroupSpecs", 0, "template", "spec", "initContainers", 0, "livenessProbe"),
    ],
)
def test_a_field_that_kuberay_does_not_know_is_found(path: tuple[str | int, ...]) -> None:
    manifest = next(one for one in overlay("kind") if one["kind"] == "RayCluster")
    with pytest.raises(jsonschema.ValidationError, match="restartPolicey"):
        check(misspelt(manifest, *path), "")


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    manifest = next(one for one in overlay("kind") if one["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicey"):
        check(misspelt(manifest, "spec", "template", "spec", "containers", 0), "1.33")


def test_the_clusters_are_rendered_alone_too() -> None:
    assert {one["kind"] for one in kustomize(K8S / "samples")} == {"ConfigMap", "RayCluster", "RayJob"}


def test_every_file_is_used() -> None:
    """A manifest that no kustomization names is applied by nobody."""
    named: set[str] = {"cluster.yaml"}
    for path in K8S.rglob("kustomization.yaml"):
        said = yaml.safe_load(path.read_text())
        named.update(path.name for path in map(path.parent.joinpath, said.get("resources", [])))
        named.update(patch["path"] for patch in said.get("patches", []) if "path" in patch)
    files = {path.name for path in K8S.rglob("*.yaml")} - {"kustomization.yaml"}
    assert files <= named
