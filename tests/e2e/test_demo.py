"""`make demo` works beside a real Consul and with the embedded one, ends by itself and leaves nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip

pytestmark = [pytest.mark.e2e]

ROOT = Path(__file__).parents[2]


def play(environ: dict[str, str]) -> str:
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "cli.demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if not k.startswith(("CONSUL_", "NOMAD_"))}, **environ},
        check=False,
    )
    print(f"demo: {time.monotonic() - begun:.1f} s")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def left_over() -> list[str]:
    """Processes that still have the demo's data_dir in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                known = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if b"drover-demo-" in known:
                found.append(folder.name)
    return found


def test_the_demo_with_the_embedded_consul() -> None:
    shown = play({})
    assert "embedded Consul" in shown
    assert "restarted after exactly 3 failing checks" in shown
    assert shown.count("demo-web.service.consul SRV") == 3
    assert left_over() == []


def test_a_demo_whose_reader_goes_away_ends_its_agent() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cli.demo"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT
    ) as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(60) == 1
    assert left_over() == []


@pytest.mark.consul
def test_the_demo_beside_a_real_consul() -> None:
    with or_skip(lambda: ConsulServer().__enter__()) as consul:
        try:
            shown = play({"CONSUL_HTTP_ADDR": consul.http_addr})
        finally:
            consul.close()
    assert "real Consul" in shown
    assert "restarted after exactly 3 failing checks" in shown
    assert left_over() == []
