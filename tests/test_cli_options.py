"""Every option can be given by the environment, says why one would change it, and is checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import api.cli.commands
from api.__main__ import main
from api.cli.commands import ray_history
from api.cli.options import data_home
from api.cli.settings import collector_config, server_config, store_config
from api.cli.values import DURATION, SIZE, duration_text, size_text
from pipeline.config import CollectorConfig, ServerConfig, StoreConfig
from pipeline.errors import ConfigError

COMMANDS = ray_history.commands
OPTIONS = [
    pytest.param(command, param, id=f"{name} {param.opts[0]}")
    for name, command in COMMANDS.items()
    for param in command.params
    if isinstance(param, click.Option)
]
KUBERAY = {
    "RAY_CLUSTER_NAME": "kube-cluster",
    "RAY_CLUSTER_NAMESPACE": "kube-ns",
    "RAY_ROLE": "Worker",
    "OWNER_KIND": "rayjob",
    "OWNER_NAME": "my-job",
    "RAY_TMP_ROOT": "/mnt/ray",
    "EVENTS_PORT": "9999",
    "S3_BUCKET": "bucket",
    "S3_ENDPOINT": "minio:9000",
    "S3_REGION": "eu-west-1",
    "S3FORCE_PATH_STYLE": "true",
    "S3DISABLE_SSL": "true",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, param in [case.values for case in OPTIONS]:
        for name in param.envvar:  # type: ignore[attr-defined]
            monkeypatch.delenv(name, raising=False)


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    """The options of a command line, as its function gets them."""
    found = COMMANDS[command]
    return found.make_context(command, list(arguments)).params


def test_the_commands_are_these() -> None:
    assert sorted(COMMANDS) == ["collect", "dashboard", "demo", "logs", "ls", "serve", "tail", "timeline", "up"]


def test_collect_has_every_option_that_was_asked_for() -> None:
    names = {opt for param in COMMANDS["collect"].params for opt in param.opts}
    asked = (
        "--store --cluster --namespace --role --owner-kind --owner-name --ray-tmp --node-id --host --events-port "
        "--data-dir --segment-bytes --segment-age --linger --disk-limit --server"
    )
    assert set(asked.split()) <= names


@pytest.mark.parametrize(("command", "param"), OPTIONS)
def test_every_option_has_a_variable_and_says_why_one_would_change_it(
    command: click.Command, param: click.Option
) -> None:
    assert isinstance(param.envvar, list)
    assert param.envvar[0].startswith("RAY_HISTORY_")
    assert param.show_envvar
    assert param.help is not None
    assert len(param.help) > 30
    assert param.help.rstrip().endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_the_variables(name: str) -> None:
    shown = CliRunner().invoke(ray_history, [name, "--help"])
    assert shown.exit_code == 0
    text = "".join(shown.output.split())
    for param in COMMANDS[name].params:
        if isinstance(param, click.Argument):
            continue  # what is asked for is said, not set
        assert isinstance(param.envvar, list)
        assert param.envvar[0] in text


@pytest.mark.parametrize("name", ["collect", "serve", "up"])
def test_one_variable_means_one_thing_in_a_command(name: str) -> None:
    named = [variable for param in COMMANDS[name].params for variable in param.envvar or ()]
    assert len(named) == len(set(named))


def test_the_collector_takes_kuberays_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in KUBERAY.items():
        monkeypatch.setenv(name, value)
    options = parsed("collect")
    store = store_config(options)
    config = collector_config(options, store, tmp_path)
    assert store == StoreConfig(
        url="s3://bucket", endpoint="http://minio:9000", region="eu-west-1", path_style=True, create_bucket=False
    )
    assert (config.cluster, config.namespace, config.role) == ("kube-cluster", "kube-ns", "worker")
    assert (config.owner_kind, config.owner_name) == ("rayjob", "my-job")
    assert (config.ray_tmp, config.events_port) == (Path("/mnt/ray"), 9999)


def test_our_names_go_before_kuberays_and_the_command_line_before_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_CLUSTER_NAME", "theirs")
    assert parsed("collect")["cluster"] == "theirs"
    monkeypatch.setenv("RAY_HISTORY_CLUSTER", "ours")
    assert parsed("collect")["cluster"] == "ours"
    assert parsed("collect", "--cluster", "said")["cluster"] == "said"
    monkeypatch.setenv("S3_BUCKET", "theirs")
    monkeypatch.setenv("RAY_HISTORY_STORE", "file:///ours")
    assert store_config(parsed("collect")).url == "file:///ours"


def test_what_kubernetes_says_of_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_HISTORY_PORT", "tcp://10.0.0.7:8080")
    monkeypatch.setenv("RAY_HISTORY_EVENTS_PORT", "tcp://10.0.0.7:8084")
    monkeypatch.setenv("EVENTS_PORT", "7000")
    assert parsed("serve")["port"] == 8080
    assert parsed("collect")["events_port"] == 7000


def test_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    store = StoreConfig(url="file:///x")
    collect = parsed("collect", "--store", store.url)
    assert collector_config(collect, store_config(collect), tmp_path) == CollectorConfig(store=store, data_dir=tmp_path)
    serve = parsed("serve", "--store", store.url, "--dashboards", str(tmp_path))
    assert server_config(serve, store_config(serve)) == ServerConfig(store=store, dashboards=tmp_path)


def test_up_keeps_both_sides_apart(tmp_path: Path) -> None:
    options = parsed("up", "--host", "0.0.0.0", "--port", "1", "--events-host", "127.0.0.2", "--events-port", "2")
    store = store_config(options, default="file:///x")
    collector = collector_config(options, store, tmp_path)
    assert (collector.host, collector.events_port, collector.segment_age) == ("127.0.0.2", 2, 1.0)
    serving = server_config(options, store)
    assert (serving.host, serving.port) == ("0.0.0.0", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collect"], "no store"),
        (["collect", "--store", "/tmp/x"], "file:///tmp/x"),
        (["collect", "--store", "ftp://x"], "--store must be"),
        (["collect", "--store", "s3://key:secret@bucket"], "must not hold credentials"),
        (["collect", "--store", "file:///x", "--cluster", "../up"], "--cluster: not a valid name"),
        (["collect", "--store", "file:///x", "--namespace", "a/b"], "--namespace: not a valid name"),
        (["collect", "--store", "file:///x", "--owner-kind", "RayJob"], "--owner-kind and --owner-name go together"),
        (["collect", "--store", "memory://", "--node-id", "nonsense"], "--node-id must be"),
        (["serve", "--store", "memory://", "--host", "999.1.1.1"], "can't listen at 999.1.1.1:8080"),
        (["demo", "--recording", "/nonexistent"], "no recording in /nonexistent"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_HISTORY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_HISTORY_EVENTS_PORT", "0")
    monkeypatch.setattr("sys.argv", ["ray-history", *arguments, "--log-level", "error"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ray-history: ")
    assert said in lines[0]
    assert "secret" not in lines[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("16MiB", 16 << 20),
        ("16Mi", 16 << 20),
        ("2 GiB", 2 << 30),
        ("1.5KiB", 1536),
        ("64MB", 64_000_000),
        ("1k", 1000),
        ("10B", 10),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("0.05s", 0.05), ("1d", 86400)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "10 parsecs", "1e9", "inf", "nan", "1MiBs", "٣MiB", "9" * 400])
def test_nonsense_is_neither_size_nor_duration(text: str) -> None:
    for kind in (SIZE, DURATION):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_sizes_and_durations_are_shown_as_they_can_be_given() -> None:
    for size in (1, 1000, 1 << 10, 16 << 20, 2 << 30, 3 << 40):
        assert SIZE.convert(size_text(size), None, None) == size
    for seconds in (0.05, 1.0, 10.0):
        assert DURATION.convert(duration_text(seconds), None, None) == seconds


def test_data_stands_where_users_keep_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_home() == tmp_path / "ray-history"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_home() == tmp_path / ".local" / "share" / "ray-history"


def test_serve_without_a_store_serves_what_up_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    ran: list[Any] = []
    monkeypatch.setattr(api.cli.commands, "run", ran.append)
    seen: list[str] = []
    for command in ("_serve", "_up"):
        monkeypatch.setattr(api.cli.commands, command, lambda *configs: seen.append(configs[-2].store.url))
    for name in ("serve", "up"):
        assert CliRunner().invoke(ray_history, [name]).exit_code == 0
    for each in ran:
        each(None)
    assert seen == [f"file://{tmp_path}/ray-history/store"] * 2


def test_config_errors_are_raised_where_no_store_is_named() -> None:
    with pytest.raises(ConfigError, match="--store"):
        store_config(parsed("collect"))
