"""What comes of one look at one template? It blocks, and so runs in a thread.

    Rendered   it says something, and its file says so too
    Lacking    answers are not there yet
    Failed     the text is wrong, or cannot be where it is to be
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.templates.answers import Answers, Source
from agent.templates.blocks import Block
from agent.templates.env_file import EnvFault, parse_env
from model.errors import TaskRefused
from template import Missing, Read, TemplateFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a rendering read: it may say something else once any of this is another."""

    versions: Mapping[Read, int]
    files: Mapping[Read, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """at: the moment that it tells. has_changed: the file said something else before, or was not there."""

    used: Used
    at: datetime
    has_changed: bool
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    used: Used
    reads: frozenset[Read]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    used: Used
    words: str


Outcome = Rendered | Lacking | Failed


class _Clock:
    """The moment that one rendering tells. was_asked: whether it tells any."""

    def __init__(self, at: datetime) -> None:
        self.at, self.was_asked = at, False

    def __call__(self) -> datetime:
        self.was_asked = True
        return self.at


def look(
    block: Block, source: Source, at: datetime | None, now: datetime, before_change: Callable[[], None] | None = None
) -> Outcome:
    """Renders, and writes what is new. at: when it was rendered last; None: never. Raises OSError for a machine in trouble."""
    answers, clock = Answers(source, block.constants), _Clock(at or now)
    try:
        data = _said(block, answers, clock)
        old = source.files.read(block.parts)
        if data != old and clock.was_asked and at is not None:
            # Something else than the time has changed, and so the time is told anew.
            clock = _Clock(now)
            answers = Answers(source, block.constants)
            data = _said(block, answers, clock)
        env = parse_env(data.decode("utf-8", "surrogateescape")) if block.document.envvars else {}
        if data != old or source.files.mode(block.parts) != block.mode:
            source.files.write(block.parts, data, block.mode, block.owner, before_change if data != old else None)
    except Missing as missing:
        return Lacking(used=_used(answers), reads=missing.reads)
    except TemplateFault as fault:
        return Failed(used=_used(answers), words=str(fault))
    except EnvFault as fault:
        return Failed(used=_used(answers), words=f"{block.name}: what it says is no environment: {fault}")
    except (TaskRefused, UnicodeError) as error:
        reason = str(error) if isinstance(error, TaskRefused) else "it says characters that no file can hold"
        return Failed(used=_used(answers), words=f"{block.name}: {reason}")
    return Rendered(used=_used(answers), at=clock.at, has_changed=data != old, env=env)


def _said(block: Block, answers: Answers, clock: _Clock) -> bytes:
    text = block.template.render(
        lookups=answers, on_missing_key="error" if block.document.err_missing_key else "zero", now=clock
    )
    return text.encode("utf-8", "surrogateescape")


def _used(answers: Answers) -> Used:
    return Used(versions=answers.used, files=answers.file_digests)


def last_env(block: Block, source: Source) -> Mapping[str, str]:
    """Of what was rendered last."""
    data = source.files.read(block.parts) if block.document.envvars else None
    try:
        return {} if data is None else parse_env(data.decode("utf-8", "surrogateescape"))
    except EnvFault:
        return {}
