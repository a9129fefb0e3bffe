"""Where does a Docker Engine for tests come from, and the image that they run?

An engine that answers is used as it is. Otherwise, as root on Debian, docker.io is installed with apt
and `dockerd` started in the background with its data under .tools; it stays up, so that the next run
starts at once. No registry is reachable: the image `drover-test:latest` is made here, from a static
busybox. The engine's own log is .tools/dockerd.log.
"""

import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from tests.components import TOOLS, ComponentMissing
from tests.components.debian import install, only_one

IMAGE = "drover-test:latest"
SOCKET = Path("/var/run/docker.sock")
START_WAIT_S_MAX = 40.0  # a first start on a slow disk took 6 s
COMMAND_WAIT_S_MAX = 60.0
POLL_S = 0.1

# Commands that the image holds as links to busybox; the rest is reached as `busybox <name>`.
APPLETS = (
    "ash", "awk", "cat", "chmod", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "grep", "head",
    "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mount", "mv", "nc", "nproc", "ping", "ps",
    "pwd", "rm", "sed", "seq", "sh", "sleep", "stat", "tail", "tee", "test", "timeout", "touch", "tr", "trap",
    "true", "uname", "wc", "wget", "which", "yes",
)  # fmt: skip


def engine() -> None:
    """Returns once a Docker Engine answers and has the test image. Raises ComponentMissing."""
    if not _answers():
        with only_one("dockerd"):
            if not _answers():
                _start()
    if not _has_image():
        with only_one("drover-test-image"):
            if not _has_image():
                _build_image()


def _answers() -> bool:
    """A fresh connection to the socket first: cheap, and `docker` itself may not be installed."""
    if "DOCKER_HOST" not in os.environ and not SOCKET.exists():
        return False
    return (
        shutil.which("docker") is not None
        and _docker("version", "--format", "{{.Server.Version}}").returncode == 0
    )


def _has_image() -> bool:
    return _docker("image", "inspect", IMAGE).returncode == 0


def _start() -> None:
    if os.geteuid() != 0:
        raise ComponentMissing("no Docker Engine answers, and only root can start one")
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        install("docker.io")
    data = TOOLS / "docker"
    data.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "dockerd.log").open("ab") as log:
        process = subprocess.Popen(
            ["dockerd", f"--data-root={data}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # outlives this run: the next one finds it answering
        )
    give_up_at = time.monotonic() + START_WAIT_S_MAX
    poll = threading.Event()
    while not _answers():
        if process.poll() is not None or time.monotonic() > give_up_at:
            tail = (TOOLS / "dockerd.log").read_text(errors="replace")[-1500:]
            raise ComponentMissing(f"dockerd does not answer:\n{tail}")
        poll.wait(POLL_S)
    process.returncode = 0  # handed over to the system: no ResourceWarning for a daemon left running


def _build_image() -> None:
    """`docker import` of a root made of one file and links to it."""
    busybox = _busybox()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "var", "home"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        _add_file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        _add_file(
            tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644
        )
        _add_file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    done = subprocess.run(
        ["docker", "import", "--change", "ENV PATH=/bin", "--change", 'CMD ["/bin/sh"]', "-", IMAGE],
        input=archive.getvalue(),
        capture_output=True,
        timeout=COMMAND_WAIT_S_MAX,
    )
    if done.returncode:
        raise ComponentMissing(f"docker import: {done.stderr.decode(errors='replace').strip()}")


def _busybox() -> Path:
    """A statically linked busybox."""
    found = Path("/bin/busybox")
    if not found.exists():
        install("busybox-static")
    return found


def _add_file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _docker(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["docker", *arguments], capture_output=True, timeout=COMMAND_WAIT_S_MAX)
