"""The shipped systemd unit and the Ansible role's are one, apart from paths; and both leave tasks alone."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "configs" / "units" / "drover.service"
TEMPLATE = ROOT / "ansible" / "roles" / "drover" / "templates" / "drover.service.j2"


def settings(path: Path) -> list[str]:
    """The lines that systemd reads, with the paths left out."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [re.sub(r"^ExecStart=.* agent -config .*", "ExecStart=drover agent", line) for line in lines]


def test_the_unit_is_that_of_the_role() -> None:
    assert settings(UNIT) == settings(TEMPLATE)


def test_the_end_of_an_agent_is_not_that_of_its_tasks() -> None:
    assert {"KillMode=process", "Delegate=yes", "OOMPolicy=continue", "TasksMax=infinity"} <= set(settings(UNIT))
