"""What do an agent's later lives have to know of a task's templates?

Which were rendered, and when: a task that is started again while Consul or Vault is away goes on with what was said last; and a
text that tells the time tells the time of its last change. And whose change is still owed to the task: an agent that was
killed between writing a file and sending the signal sends it in its next life.

A small file beside the task's directory, where the task cannot write (unless it may write everywhere). No text, no secret.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec


class Memory(msgspec.Struct, frozen=True):
    """By a block's digest. rendered: when it said what it says now. owed: changes that the task was not told of yet."""

    rendered: dict[str, datetime] = {}
    owed: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(Memory).decode


def _path(task_dir: Path) -> Path:
    return task_dir.with_name(f".{task_dir.name}.templates")


def load(task_dir: Path) -> Memory:
    """Nothing is remembered when it cannot be read: then all is rendered."""
    with suppress(OSError, msgspec.MsgspecError):
        return _decode(_path(task_dir).read_bytes())
    return Memory()


def store(task_dir: Path, memory: Memory) -> None:
    path = _path(task_dir)
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(memory))
    os.replace(new, path)
