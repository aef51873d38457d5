"""KubeRay's own schemas of RayCluster and RayJob, of the version that k8s/deploy-kind.sh installs.

They aren't ours to keep here. Its Go module has them, so whoever has Go gets them with what ``how_to_get_them`` says;
CI does.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from support.manifests import SCRIPT
from support.skips import need

MODULE = "github.com/ray-project/kuberay/ray-operator"
Schema = dict[str, Any]


@functools.cache
def version() -> str:
    found = re.search(r"^KUBERAY_VERSION=(\S+)$", SCRIPT.read_text(), re.MULTILINE)
    assert found
    return found[1]


def how_to_get_them() -> str:
    return f"go mod download {MODULE}@v{version()}"


@functools.cache
def schema(kind: str) -> Schema:
    """The strict schema of ``ray.io/v1``: a field that it doesn't have is an error. Skips the test where it is absent."""
    folder = _modules() / f"{MODULE}@v{version()}" / "config" / "crd" / "bases"
    need(folder.is_dir(), f"needs KubeRay's schemas: {how_to_get_them()}")
    text = (folder / f"ray.io_{kind.lower()}s.yaml").read_bytes()
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    found: Schema = next(one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1")
    found["properties"]["metadata"] = {"type": "object"}
    return strict(found)


def strict(schema: Schema) -> Schema:
    """The same, where an object with named fields has no others."""
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for below in _below(schema):
        strict(below)
    return schema


def _below(schema: Schema) -> list[Schema]:
    found = list(schema.get("properties", {}).values())
    found += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
    return found


def _modules() -> Path:
    """Go's folder of modules, whether or not Go is there."""
    if os.environ.get("GOMODCACHE"):
        return Path(os.environ["GOMODCACHE"])
    if go := shutil.which("go"):
        said = subprocess.run([go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True, timeout=30)
        return Path(said.stdout.strip())
    return Path.home() / "go" / "pkg" / "mod"
