"""How does a Debian package that this release lacks get into .tools, without touching the system?

apt itself does it, with its sources list, its index and its cache moved into .tools: the same mirror
and the same keyring as the machine's own sources, another suite. So the signature and every SHA256 are
checked by apt, `apt-get download` never runs the resolver, and the system's sources and its package
database stay as they were. `dpkg -x` unpacks; nothing is installed. What the release does have is
installed in the ordinary way.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.components import TOOLS, ComponentMissing

SOURCES = Path("/etc/apt")
COMMAND_WAIT_S_MAX = 300.0  # a 15 MB package over a slow line; double it and a dead mirror stalls `make test`


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """One archive of Debian that this machine already trusts."""

    uri: str
    signed_by: str  # keyring path, "" for apt's default


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Held by one process at a time: test workers start together and want the same file."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpack(package: str, suite: str) -> Path:
    """The folder that holds the unpacked `package` of `suite`; fetched at the first call.

    Raises ComponentMissing when this machine has no apt, no Debian mirror, or cannot reach it.
    """
    root = TOOLS / f"{package}-{suite}"
    with only_one(f"{package}-{suite}"):
        if root.is_dir():
            return root
        archive = _download(package, suite)
        partial = root.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run(["dpkg", "-x", str(archive), str(partial)])
        partial.rename(root)
    return root


def install(package: str) -> None:
    """Installs a package of this machine's own release. Raises ComponentMissing, also when not root."""
    if os.geteuid() != 0:
        raise ComponentMissing(f"only root can install {package}")
    with only_one("apt"):
        _run(["apt-get", "update", "-q"])
        _run(["apt-get", "install", "-q", "-y", "--no-install-recommends", package])


def command(name: str, package: str) -> Path:
    """The path of a command, whose package is installed when it is not there."""
    if shutil.which(name) is None:
        install(package)
    found = shutil.which(name)
    if found is None:
        raise ComponentMissing(f"{package} brought no {name}")
    return Path(found)


def mirror(sources: Path = SOURCES) -> Mirror:
    """The first archive of Debian proper in the machine's own apt sources. Raises ComponentMissing."""
    lists = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*.list"))]
    for path in sorted((sources / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            found = _from_stanza(stanza)
            if found:
                return found
    for path in lists:
        for line in path.read_text().splitlines() if path.is_file() else ():
            found = _from_line(line)
            if found:
                return found
    raise ComponentMissing(f"no Debian mirror in the apt sources under {sources}")


def _from_stanza(stanza: str) -> Mirror | None:
    """The deb822 form: `URIs: http://host/debian` among other fields."""
    lines = [line for line in stanza.splitlines() if not line.startswith("#")]
    fields = dict(re.findall(r"^([\w-]+):[ \t]*(\S+)", "\n".join(lines), re.MULTILINE))
    if fields.get("Enabled") == "no" or not _is_debian(fields.get("URIs", "")):
        return None
    return Mirror(uri=fields["URIs"], signed_by=fields.get("Signed-By", ""))


def _from_line(line: str) -> Mirror | None:
    """The one-line form: `deb [signed-by=/path] http://host/debian bookworm main`."""
    match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s", line)
    if match is None or not _is_debian(match[2]):
        return None
    keyring = re.search(r"signed-by=(\S+)", match[1] or "")
    return Mirror(uri=match[2], signed_by=keyring[1] if keyring else "")


def _is_debian(uri: str) -> bool:
    return uri.rstrip("/").endswith("/debian")


def _download(package: str, suite: str) -> Path:
    source = mirror()
    state = TOOLS / "apt" / suite
    for folder in (state / "lists" / "partial", state / "cache" / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    keyring = f"[signed-by={source.signed_by}] " if source.signed_by.startswith("/") else ""
    (state / "sources.list").write_text(f"deb {keyring}{source.uri} {suite} main\n")
    apt = [
        "apt-get",
        *("-o", f"Dir::Etc::SourceList={state / 'sources.list'}", "-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "APT::Sandbox::User=root"),  # _apt may not write into the repository
    ]
    _run([*apt, "update"])
    _run([*apt, "download", package], cwd=state)
    return max(state.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)


def _run(command: list[str], cwd: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=COMMAND_WAIT_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ComponentMissing(f"{command[0]}: {error}") from error
    if done.returncode:
        raise ComponentMissing(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
