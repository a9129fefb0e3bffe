"""Prepares every real component once, before the tests: `python -m tests.components`.

A missing one is a note, for the tests that need it skip themselves; under CI=true it is a failure.
"""

import os
import sys
from collections.abc import Callable

from tests.components import ComponentMissing, chromium, consul, debian, docker

COMPONENTS: tuple[tuple[str, Callable[[], object]], ...] = (
    ("consul", consul.consul_binary),
    ("dig", lambda: debian.command("dig", "dnsutils")),
    ("bwrap", lambda: debian.command("bwrap", "bubblewrap")),
    ("chromium", chromium.chromium),
    ("docker", docker.engine),
    ("redis", lambda: debian.command("redis-cli", "redis-tools")),
)


def main() -> int:
    missing = 0
    for name, prepare in COMPONENTS:
        try:
            prepare()
        except ComponentMissing as error:
            missing += 1
            print(f"missing: {name}: {error}", file=sys.stderr)
    return 1 if missing and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
