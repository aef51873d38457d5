"""The examples of docs/api-lists.md work as they stand, against a real server."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.captures import DATA
from support.processes import on_disk, server
from support.recorded_store import put_recording

from api.query.lives import _LIVES
from api.query.paging import PARAMETERS
from api.query.schemas import SCHEMAS
from pipeline.layout import SessionKey
from pipeline.stores.filestore import FileStore

DOC = Path(__file__).resolve().parent.parent / "docs" / "api-lists.md"
TEXT = DOC.read_text()
EXAMPLES = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("lists")

    async def fill() -> SessionKey:
        return await put_recording(FileStore(folder / "store"), DATA / "posted", "default", "demo")

    key = anyio.run(fill)
    with server(on_disk(folder / "store"), folder) as program:
        yield f"{program.url}/sessions/{key}"


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.splitlines()[0].strip("# ") for example in EXAMPLES])
def test_an_example_runs_and_shows_something(example: str, address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example],
        env={"S": address, "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    files = list(tmp_path.iterdir())
    assert done.stdout.strip() or files
    for table in (file for file in files if file.suffix == ".csv"):
        with table.open(newline="") as lines:
            assert len(list(csv.DictReader(lines))) > 0


def test_every_parameter_and_every_list_is_described() -> None:
    assert EXAMPLES
    assert [name for name in PARAMETERS if f"`{name}=" not in TEXT] == []
    assert [resource for resource in SCHEMAS if resource not in TEXT] == []
    table = TEXT[TEXT.index("| list | begins") :]
    assert [name for name in _LIVES if f"| {name.replace('_', ' ')} |" not in table] == []
