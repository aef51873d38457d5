"""``python -m bench``: rates and memory of both programs on a generated session, as one plain table.

``python -m bench live``: how long changes are on their way to those who follow a session (``live_stream.py``).
``python -m bench cut``: the same after trouble on that way, and that nothing is missing (``cut.py``).

Every figure is of this machine, the client's part of its processors included. The line ``json.loads`` is
the same bytes through the standard library's decoder in the same run, so that ratios of processor time can
be compared with another machine's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.collect import Collected, collect, decode_only  # noqa: E402
from bench.cut import main as cut  # noqa: E402
from bench.generate import Generated, generate  # noqa: E402
from bench.live_stream import main as live  # noqa: E402
from bench.load import Loaded, load  # noqa: E402
from bench.stores import place  # noqa: E402

MB = 1_000_000


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--attempts", default=100_000, show_default=True, help="Task attempts; each is five records.")
@click.option("--s3", is_flag=True, help="Keep the history in SeaweedFS (S3) instead of a folder.")
@click.option("--connections", default="1,4", show_default=True, help="How many posts at once, one run for each.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the data goes. Default: a temporary folder.")
def main(context: click.Context, attempts: int, s3: bool, connections: str, folder: Path | None) -> None:
    """Generate a session, collect it, answer from it; print what that took."""
    if context.invoked_subcommand is not None:
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
        work = Path(name)
        generated = generate(work / "posts.jsonl", attempts)
        wall, base = decode_only(generated.path)
        say(
            f"{generated.attempts:,} task attempts, {generated.records:,} records, {generated.bytes / MB:,.0f} MB of JSON"
        )
        say(row("json.loads alone", generated, wall, base, base))
        for count in map(int, connections.split(",")):
            run = work / f"collect-{count}"
            with place("s3" if s3 else "file", run) as store:
                say(collected(collect(generated, store, run, connections=count), generated, base))
                if count == int(connections.split(",")[-1]):
                    say(loaded(load(generated, store, run), generated, base))


def row(what: str, generated: Generated, seconds: float, cpu: float | None, base: float) -> str:
    spent = f"  cpu {cpu:6.2f} s = {cpu / base:4.2f} x json.loads" if cpu is not None else ""
    return (
        f"{what:<38} {seconds:8.2f} s {generated.records / seconds:>10,.0f} records/s"
        f" {generated.bytes / seconds / MB:>7,.1f} MB/s{spent}"
    )


def collected(done: Collected, generated: Generated, base: float) -> str:
    label = f"collect, {done.connections} connection{'s' if done.connections > 1 else ''}"
    ordered = sorted(done.latencies)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return "\n".join(
        [
            row(f"{label}: posted", generated, done.posted, None, base),
            row(f"{label}: in the store", generated, done.stored, done.cpu, base),
            f"{'':<38} post p50 {middle * 1000:.1f} ms, p99 {late * 1000:.1f} ms, most {ordered[-1] * 1000:.1f} ms;"
            f" SIGTERM to exit {done.stopped - done.stored:.2f} s",
            f"{'':<38} peak memory {done.peak_rss / MB:.0f} MB; {done.segments} segments,"
            f" {done.stored_bytes / MB:.1f} MB stored ({generated.bytes / done.stored_bytes:.1f} times smaller)",
        ]
    )


def loaded(done: Loaded, generated: Generated, base: float) -> str:
    lines = [
        row("serve, first answer: summary", generated, done.summary, done.summary_cpu, base),
        row("serve, first answer: 10,000 rows", generated, done.rows, done.rows_cpu, base),
        f"{'':<38} peak memory {done.peak_rss / MB:.0f} MB (idle {done.idle_rss / MB:.0f} MB)",
    ]
    lines += [f"serve, warm {seconds * 1000:>9.1f} ms  {url}" for url, seconds in done.warm.items()]
    return "\n".join(lines)


def say(text: str) -> None:
    click.echo(text)


main.add_command(live, "live")
main.add_command(cut, "cut")


if __name__ == "__main__":
    main()
