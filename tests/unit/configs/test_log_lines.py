"""Where the agent's log goes, how its lines look, and when its file is rotated."""

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import AgentConfig, log_lines
from model.errors import ConfigError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def config(path: Path, **more: object) -> AgentConfig:
    return AgentConfig(name="n", data_dir=path, log_file=str(path / "agent.log"), **more)  # type: ignore[arg-type]


def test_json_lines_have_hclogs_keys(tmp_path: Path) -> None:
    log_lines.set_up(config(tmp_path, log_json=True, log_include_location=True))
    logging.getLogger("drover.x").warning("a %s", "b")
    line = json.loads((tmp_path / "agent.log").read_text())
    assert (line["@level"], line["@message"], line["@module"]) == ("warn", "a b", "drover.x")
    assert line["@caller"].startswith("test_log_lines.py:")
    assert line["@timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("level", "kept"),
    [("DEBUG", ["debug", "info", "warn", "error"]), ("TRACE", ["debug", "info", "warn", "error"]), ("WARN", ["warn", "error"])],
)
def test_the_level_is_heeded(level: str, kept: list[str], tmp_path: Path) -> None:
    log_lines.set_up(config(tmp_path, log_level=level))
    log = logging.getLogger("drover.x")
    for number, word in ((10, "debug"), (20, "info"), (30, "warn"), (40, "error")):
        log.log(number, word)
    assert [line.rpartition(" ")[2] for line in (tmp_path / "agent.log").read_text().splitlines()] == kept


def test_a_file_that_is_too_large_is_moved_and_the_oldest_are_removed(tmp_path: Path) -> None:
    log_lines.set_up(config(tmp_path, log_rotate_bytes=100, log_rotate_max_files=2))
    (tmp_path / "agent-notes.log").write_text("somebody's own")
    for number in range(10):
        logging.getLogger("drover.x").info("%d %s", number, "x" * 100)
    rotated = sorted(path for path in tmp_path.glob("agent-*.log") if path.name != "agent-notes.log")
    assert [path.read_text().split()[3] for path in (*rotated, tmp_path / "agent.log")] == ["7", "8", "9"]
    assert (tmp_path / "agent-notes.log").exists()


def test_a_file_that_is_too_old_is_moved(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.write_text("old\n")
    os.utime(path, (0, time.time() - 86_400))
    log_lines.set_up(config(tmp_path))
    logging.getLogger("drover.x").info("new")
    assert [each.read_text() for each in tmp_path.glob("agent-*.log")] == ["old\n"]
    assert path.read_text().endswith("new\n")


def test_a_facility_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="syslog_facility"):
        log_lines.set_up(AgentConfig(name="n", data_dir=tmp_path, enable_syslog=True, syslog_facility="LOUD"))
