"""How does a line of the agent's own log look, where does it go, and who may listen in?

Text as Nomad's, or one JSON object a line with hclog's keys (`log_json`):

    2026-01-02T15:04:05.678Z [INFO]  leader.election: acquired the lock
    {"@level":"info","@message":"acquired the lock","@module":"leader.election","@timestamp":"2026-01-02T15:04:05.678900Z"}

Every handler has its own level, and the root logger the lowest of theirs: who listens in at DEBUG does not make the
log file longer.
"""

import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from configs.settings import AgentConfig
from model.errors import ConfigError, Fault

_LEVELS = {"TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
_WORDS = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_SYSLOG = "/dev/log"


def level_of(name: str) -> int | None:
    """Of one of Nomad's level names, in whatever case."""
    return _LEVELS.get(name.upper())


class TextLines(logging.Formatter):
    def __init__(self, *, has_location: bool = False) -> None:
        super().__init__()
        self._has_location = has_location

    def format(self, record: logging.LogRecord) -> str:
        level = f"[{_word(record)}]"
        where = f"{_location(record)}: " if self._has_location else ""
        line = f"{_moment(record, 'milliseconds')} {level:7} {where}{record.name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    def __init__(self, *, has_location: bool = False) -> None:
        super().__init__()
        self._has_location = has_location

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "@level": _word(record).lower(),
            "@message": record.getMessage(),
            "@module": record.name,
            "@timestamp": _moment(record, "microseconds"),
        }
        if self._has_location:
            line["@caller"] = _location(record)
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def formatter(*, is_json: bool, has_location: bool = False) -> logging.Formatter:
    return JsonLines(has_location=has_location) if is_json else TextLines(has_location=has_location)


def _word(record: logging.LogRecord) -> str:
    return _WORDS.get(record.levelno, record.levelname)


def _moment(record: logging.LogRecord, precision: str) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _location(record: logging.LogRecord) -> str:
    return f"{record.filename}:{record.lineno}"


def set_up(config: AgentConfig) -> None:
    """Where the agent's log goes. Raises ConfigError when a file cannot be opened."""
    level = _LEVELS[config.log_level]
    handlers = [_file(config) if config.log_file else logging.StreamHandler(sys.stderr)]
    if config.enable_syslog:
        handlers.append(_syslog(config))
    for handler in handlers:
        handler.setLevel(level)
        if handler.formatter is None:
            handler.setFormatter(formatter(is_json=config.log_json, has_location=config.log_include_location))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    # The loop's own debug lines say nothing about drover.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Everything from the handler's own level on goes to it, too."""
    root = logging.getLogger()
    root.addHandler(handler)
    _lower(root)
    try:
        yield
    finally:
        root.removeHandler(handler)
        _lower(root)


def _lower(root: logging.Logger) -> None:
    root.setLevel(min((handler.level for handler in root.handlers), default=logging.WARNING))


def _file(config: AgentConfig) -> logging.Handler:
    try:
        return RotatingFile(
            Path(config.log_file),
            bytes_max=config.log_rotate_bytes,
            age_s_max=config.log_rotate_duration_s,
            files_max=config.log_rotate_max_files,
        )
    except OSError as error:
        message = f"{config.log_file} cannot be opened: {error.strerror}"
        raise ConfigError((Fault(path="log_file", message=message),)) from error


def _syslog(config: AgentConfig) -> logging.Handler:
    facility = config.syslog_facility.lower()
    try:
        handler = logging.handlers.SysLogHandler(_SYSLOG, logging.handlers.SysLogHandler.facility_names[facility])
    except KeyError as error:
        raise ConfigError((Fault(path="syslog_facility", message=f'unknown facility "{facility}"'),)) from error
    except OSError as error:
        message = f"{_SYSLOG} does not answer: {error.strerror}"
        raise ConfigError((Fault(path="enable_syslog", message=message),)) from error
    handler.ident = "drover: "
    return handler


class RotatingFile(logging.handlers.BaseRotatingHandler):
    """Moves a file that is too large or too old to `<name>-<nanoseconds><suffix>`, and keeps so many of those.

    0: no limit. The three numbers are Nomad's log_rotate_bytes, log_rotate_duration and log_rotate_max_files.
    """

    def __init__(self, path: Path, *, bytes_max: int, age_s_max: float, files_max: int) -> None:
        super().__init__(path, "a", encoding="utf-8")
        self._path, self._bytes_max, self._age_s_max, self._files_max = path, bytes_max, age_s_max, files_max
        # Of a file that was there before: since somebody last wrote to it, which is all that is known.
        self._begun_at = path.stat().st_mtime if path.stat().st_size else time.time()

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        size = self.stream.tell() if self.stream else 0
        is_large = bool(self._bytes_max) and size >= self._bytes_max
        is_old = bool(self._age_s_max) and time.time() - self._begun_at >= self._age_s_max
        return size > 0 and (is_large or is_old)

    def doRollover(self) -> None:
        if self.stream:
            self.stream.close()
        path = self._path
        os.rename(path, path.with_name(f"{path.stem}-{time.time_ns()}{path.suffix}"))
        self.stream = self._open()
        self._begun_at = time.time()
        if self._files_max:
            for old in self._rotated()[: -self._files_max]:
                old.unlink(missing_ok=True)

    def _rotated(self) -> list[Path]:
        """The oldest first: their numbers have as many digits for the next 260 years."""
        found = self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}")
        return sorted(path for path in found if path.stem.removeprefix(f"{self._path.stem}-").isdigit())
