"""docs/kubernetes.md says what is there: folders, targets, versions, names that are read, manifests that are taken."""

from __future__ import annotations

import re

import kubernetes_validate
import pytest
import yaml
from support import kuberay
from support.manifests import K8S, OVERLAYS, TOP, named, overlay

from api.cli.commands import ray_history

DOC = (TOP / "docs" / "kubernetes.md").read_text()
MANIFESTS = re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL)
VARIABLES = {
    each
    for command in ("collect", "serve")
    for param in ray_history.commands[command].params
    for each in param.envvar or ()  # type: ignore[union-attr]
}


@pytest.mark.parametrize("text", MANIFESTS)
def test_each_manifest_is_valid_and_names_a_service_of_ours(text: str) -> None:
    manifest = yaml.safe_load(text)
    kubernetes_validate.validate(manifest, "1.30", strict=True)
    backend = manifest["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    service = named(overlay("s3"), "Service", backend["name"])
    assert backend["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]


def test_there_is_an_ingress() -> None:
    assert [yaml.safe_load(text)["kind"] for text in MANIFESTS] == ["Ingress"]


def test_every_folder_is_in_the_table() -> None:
    said = {
        name.rstrip("/") for name in re.findall(r"`([a-z0-9-]+(?:/[a-z0-9-]+)?)/`", DOC.split("\n## A collector")[0])
    }
    there = {"images", "base", "samples", *(f"overlays/{name}" for name in OVERLAYS)}
    there |= {f"components/{path.parent.name}" for path in K8S.glob("components/*/kustomization.yaml")}
    assert there <= said
    assert all((K8S / name).is_dir() for name in said)


def test_every_target_of_make_is_one() -> None:
    makefile = (TOP / "Makefile").read_text()
    said = set(re.findall(r"`?make ([a-z-]+)", DOC))
    assert said == {"deploy-kind", "undeploy-kind"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in said)


def test_every_variable_of_ours_is_read() -> None:
    assert set(re.findall(r"\bRAY_HISTORY_[A-Z0-9_]+\b", DOC)) <= VARIABLES


def test_kuberays_names_are_read_as_it_says() -> None:
    listed = re.search(r"that KubeRay's collector and server read \((.*?)\)", DOC, re.DOTALL)
    assert listed
    names = set(re.findall(r"`([A-Z0-9_]+)`", listed[1]))
    assert len(names) > 10
    assert names <= VARIABLES


def test_the_version_of_kuberay_is_the_one_that_is_installed() -> None:
    assert f"installs KubeRay {kuberay.version()}" in DOC


def test_readme_leads_here() -> None:
    assert "(docs/kubernetes.md)" in (TOP / "README.md").read_text()
