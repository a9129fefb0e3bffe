"""What is a host of these tests? A container that boots systemd, with a Consul agent, sshd and python as a machine of a
fleet has them, and nothing of drover.

Made once by debootstrap; pip there has an index of files alone: the wheels that drover needs, fetched beforehand.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.components import TOOLS
from tests.components.consul import consul_binary
from tests.components.debian import command, mirror, only_one

IMAGE = "drover-test-host:2"
WHEELS = TOOLS / "wheels"
KEY = TOOLS / "ansible-key"
PROJECT = Path(__file__).parents[2]
PACKAGES = (
    "systemd,systemd-sysv,systemd-resolved,dbus,openssh-server,python3,python3-venv,python3-apt,ca-certificates,iproute2,procps,bubblewrap"
    ",dnsmasq,iptables"
)
_BUILD_S = 900

_CONSUL_UNIT = """[Unit]
Description=Consul
After=network-online.target
[Service]
ExecStart=/usr/local/bin/consul agent -config-dir /etc/consul.d
KillSignal=SIGINT
Restart=on-failure
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
"""
_PIP = "[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n"


def image() -> str:
    """Its name, once Docker has it. Raises ComponentMissing, CalledProcessError."""
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode:
        with only_one("drover-host-image"):
            _build()
    return IMAGE


def wheels() -> None:
    """What pip on the hosts may install: the dependencies of drover, at the versions that are tested here."""
    made_of = WHEELS / "made-of"
    wanted = (PROJECT / "pyproject.toml").read_text() + (PROJECT / "constraints.txt").read_text()
    if made_of.exists() and made_of.read_text() == wanted:
        return
    WHEELS.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "-w", WHEELS, "-c", PROJECT / "constraints.txt"),
            PROJECT,
        ],
        check=True,
        timeout=_BUILD_S,
    )
    for own in WHEELS.glob("drover-*.whl"):
        own.unlink()
    made_of.write_text(wanted)


def _build() -> None:
    root = TOOLS / "host-root"
    shutil.rmtree(root, ignore_errors=True)
    debootstrap = command("debootstrap", "debootstrap")
    source = mirror()
    keyring = (f"--keyring={source.signed_by}",) if source.signed_by.startswith("/") else ()
    with (TOOLS / "debootstrap.log").open("w") as log:
        subprocess.run(
            [debootstrap, "--variant=minbase", *keyring, f"--include={PACKAGES}", "bookworm", root, source.uri],
            check=True,
            stdout=log,
            stderr=log,
            timeout=_BUILD_S,
        )
    shutil.copy(consul_binary(), root / "usr/local/bin/consul")
    (root / "etc/systemd/system/consul.service").write_text(_CONSUL_UNIT)
    (root / "etc/pip.conf").write_text(_PIP)
    (root / "etc/machine-id").write_text("")
    if not KEY.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY], check=True, timeout=60)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(KEY.with_suffix(".pub"), root / "root/.ssh/authorized_keys")
    for unit in ("dnsmasq", "systemd-resolved"):  # a test starts them where it needs them
        (root / f"etc/systemd/system/multi-user.target.wants/{unit}.service").unlink(missing_ok=True)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "consul.service").symlink_to("/etc/systemd/system/consul.service")
    packed = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    try:
        subprocess.run(
            ["docker", "import", "--change", 'CMD ["/sbin/init"]', "-", IMAGE], stdin=packed.stdout, check=True, timeout=_BUILD_S, stdout=subprocess.DEVNULL
        )
    finally:
        packed.wait(60)
    shutil.rmtree(root)
