"""How does a test get a Redis? Debian's own, of this machine's release, on a port of its own.

redis-tools alone is installed: its redis-check-rdb is the server by another name, and the package redis-server would
start one for the whole machine.

    with Redis() as redis:
        redis.command("RPUSH", "queue", "1", "2")
"""

import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.components import ComponentMissing
from tests.components.consul import free_port
from tests.components.debian import command

START_S_MAX = 10.0


class Redis:
    """cli: the path of redis-cli. port: on 127.0.0.1."""

    def __init__(self) -> None:
        """Raises ComponentMissing."""
        self.cli = command("redis-cli", "redis-tools")
        self._server = command("redis-check-rdb", "redis-tools")
        self.port = free_port()
        self._home = Path(tempfile.mkdtemp(prefix="drover-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                "redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._home),
                "--save", "", "--appendonly", "no", "--maxclients", "500",
            ],
            executable=self._server,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        give_up_at_s, pause = time.monotonic() + START_S_MAX, threading.Event()
        while not self._answers():
            if time.monotonic() > give_up_at_s:
                self.__exit__()
                raise ComponentMissing("redis-server does not answer")
            pause.wait(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        shutil.rmtree(self._home, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING") == ["PONG"]
        return False

    def command(self, *words: str) -> list[str]:
        """The lines of its answer."""
        done = subprocess.run(
            [self.cli, "-h", "127.0.0.1", "-p", str(self.port), *words], capture_output=True, text=True, timeout=10, check=False
        )
        if done.returncode:
            raise OSError(done.stderr.strip())
        return done.stdout.strip().split("\n")
