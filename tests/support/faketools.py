"""docker, kind, kubectl and helm as far as k8s/deploy-kind.sh sees them: they note each call, and what it changes.

Run under one of these names. ``$FAKE_STATE`` is a folder: ``calls.jsonl`` has the calls, ``broken`` the words of a call that is
to fail, and the rest is what there would be on a machine: clusters, loaded images, secrets, what was applied.
``$FAKE_RENDERED`` is one with what kustomize makes of each overlay.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STATE = Path(os.environ.get("FAKE_STATE", "/nowhere"))


def main(tool: str, words: list[str]) -> int:
    with (STATE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([tool, *words]) + "\n")
    broken = STATE / "broken"
    if broken.exists() and " ".join([tool, *words]).startswith(broken.read_text()):
        sys.stderr.write(f"{tool}: as it was told, it fails\n")
        return 1
    return {"docker": docker, "kind": kind, "kubectl": kubectl, "helm": lambda _: 0}[tool](words)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n" if text else "")


def docker(words: list[str]) -> int:
    image = STATE / "image"
    match words:
        case ["image", "inspect", *_]:
            say(image.read_text())
        case ["build", *_]:
            image.write_text("sha256:" + os.environ.get("FAKE_IMAGE", "0123456789abcdef" * 4))
    return 0


def kind(words: list[str]) -> int:
    clusters = STATE / "clusters"
    match words:
        case ["get", "clusters"]:
            say(clusters.read_text().strip() if clusters.exists() else "")
        case ["create", "cluster", "--name", name, *_]:
            clusters.write_text(f"{name}\n")
        case ["delete", "cluster", "--name", _]:
            clusters.unlink(missing_ok=True)
    return 0


def kubectl(words: list[str]) -> int:
    match words:
        case ["kustomize", folder]:
            say((Path(os.environ["FAKE_RENDERED"]) / f"{Path(folder).name}.yaml").read_text())
            return 0
        case ["--context", _, "--namespace", _, *rest]:
            return in_cluster(rest)
    return 2


def in_cluster(words: list[str]) -> int:
    match words:
        case ["get", "secret", name, "--ignore-not-found", "--output", "name"]:
            if (STATE / f"secret-{name}").exists():
                say(f"secret/{name}")
        case ["create", "secret", "generic", name, "--from-env-file=/dev/stdin"]:
            if (STATE / f"secret-{name}").exists():
                return 1
            (STATE / f"secret-{name}").write_text(sys.stdin.read())
        case ["apply", "--filename", "-"]:
            (STATE / "applied.yaml").write_text(sys.stdin.read())
        case ["get", "statefulset,deployment", *_]:
            say("statefulset.apps/minio\ndeployment.apps/ray-history")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[0]).name, sys.argv[1:]))
