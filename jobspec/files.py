"""How is a job file read from disk, and what may a job's `file()` read?"""

import os
import re
import select
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jobspec.evaluate import Function
from jobspec.functions import checked
from jobspec.values import ConversionFault, Value, composed, make_set, to_text
from model.errors import Fault, JobspecError

# Far above any real job (the largest of 653 has 56 kB), far below what would hurt to hold in memory.
SIZE_MAX = 10_000_000
# How long a pipe may stay silent: a program that writes a job file needs less, and nobody waits for ever for one
# that was never started.
PIPE_WAIT_S = 5


def read_file(path: str | Path, *, accepts_pipe: bool = False) -> bytes:
    """A file's bytes. Raises JobspecError with one line for anything that is no readable file.

    accepts_pipe: also what a program writes to a pipe, as for `<(…)` and /dev/stdin, until it has ended.
    """
    try:
        # Non-blocking, or opening a FIFO would wait for its writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISFIFO(mode) and accepts_pipe:
            data = _read_pipe(handle, path)
        elif stat.S_ISREG(mode):
            with os.fdopen(handle, "rb", closefd=False) as stream:
                data = stream.read(SIZE_MAX + 1)
        else:
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise JobspecError((Fault(message=f"{kind} (a file was expected)", where=str(path)),))
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(handle)
    if len(data) > SIZE_MAX:
        raise JobspecError((Fault(message=f"larger than {SIZE_MAX // 1_000_000} MB", where=str(path)),))
    return data


def _read_pipe(handle: int, path: str | Path) -> bytes:
    """Until its writers have closed it, or more than SIZE_MAX came."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    data, has_waited = bytearray(), False
    while len(data) <= SIZE_MAX:
        try:
            part = os.read(handle, 65536)
        except BlockingIOError:
            is_end = False
        else:
            data += part
            # Nothing at once may also mean that the writer of a named FIFO is still to come.
            is_end = not part and (has_waited or bool(data))
            if part:
                continue
        if is_end:
            break
        if not poll.poll(PIPE_WAIT_S * 1000):
            raise JobspecError(
                (Fault(message=f"a pipe that nobody has written to for {PIPE_WAIT_S} s", where=str(path)),)
            )
        has_waited = True
    return bytes(data)


def _unreadable(path: str | Path, error: Exception) -> JobspecError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return JobspecError((Fault(message=f"cannot be read: {reason}", where=repr(str(path))[1:-1]),))


# How many names a fileset looks at: a pattern in the root directory must not take minutes.
_NAMES_MAX = 100_000


def file_functions(folder: Path, *, allows_any_file: bool = False) -> Mapping[str, Function]:
    """file() and its kin, with relative paths taken from `folder`.

    allows_any_file: without it only what lies in `folder`, links followed, can be read or asked about: a job
    file from elsewhere shall not carry the user's keys into Consul.
    """
    root = os.path.realpath(folder)

    def place(path: Value) -> str:
        written = to_text(path)
        found = os.path.realpath(os.path.join(root, _at_home(written)))
        if not allows_any_file and os.path.commonpath((root, found)) != root:
            raise ConversionFault(
                f'"{written[:200]}" is outside of the job file\'s directory (-allow-outside-files allows it)'
            )
        return found

    def data(path: Value) -> bytes:
        try:
            return read_file(place(path))
        except JobspecError as error:
            raise ConversionFault(str(error)) from None

    def file(path: Value) -> Value:
        try:
            return composed(data(path).decode())
        except UnicodeDecodeError:
            raise ConversionFault(f"{to_text(path)} is not UTF-8 text (filebase64 reads any file)") from None

    def filebase64(path: Value) -> Value:
        from base64 import b64encode

        return b64encode(data(path)).decode()

    def fileexists(path: Value) -> Value:
        found = place(path)
        if os.path.exists(found) and not os.path.isfile(found):
            raise ConversionFault(f"{to_text(path)} is not a regular file")
        return os.path.isfile(found)

    def fileset(directory: Value, pattern: Value) -> Value:
        base = place(directory)
        return make_set([*_matching(base, to_text(pattern), place)])

    found: dict[str, Function] = {
        "abspath": _abspath,
        "file": file,
        "filebase64": filebase64,
        "fileexists": fileexists,
        "fileset": fileset,
        "pathexpand": lambda path: _at_home(to_text(path)),
    }
    return {name: checked(function) for name, function in found.items()}


def _abspath(path: Value) -> Value:
    """Taken from the working directory, as Nomad does, and not from the job file's."""
    try:
        return os.path.abspath(to_text(path))
    except OSError as error:  # the working directory is gone
        raise ConversionFault(str(error)) from None


def _at_home(path: str) -> str:
    if not path.startswith("~"):
        return path
    if path not in ("~", "") and not path.startswith("~/"):
        raise ConversionFault("another user's home directory cannot be found")
    return os.path.expanduser(path)


# ---- fileset


def _matching(base: str, pattern: str, place: Callable[[Value], str]) -> Iterator[str]:
    """The names, from `base`, of the regular files that match a pattern of `*`, `**`, `?`, `[…]` and `{…,…}`."""
    steps = pattern.split("/")
    fixed = 0
    while fixed < len(steps) - 1 and not any(mark in steps[fixed] for mark in "*?[{\\"):
        fixed += 1
    start = place(os.path.join(base, *steps[:fixed]) if fixed else base)
    wanted = _pattern("/".join(steps[fixed:]))
    names = 0
    for folder, folders, files in os.walk(start):
        folders.sort()
        names += len(folders) + len(files)
        if names > _NAMES_MAX:
            raise ConversionFault(f"the directory holds more than {_NAMES_MAX} names")
        for name in files:
            found = os.path.join(folder, name)
            if wanted.fullmatch(os.path.relpath(found, start)) and os.path.isfile(found):
                yield os.path.relpath(found, base)


def _pattern(text: str) -> "re.Pattern[str]":
    parts: list[str] = []
    at = braces = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*" and text.startswith("*", at):
            at += 1
            if text.startswith("/", at):
                at += 1
                parts.append("(?:[^/]+/)*+")
            else:
                parts.append(".*+")
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and "]" in text[at + 1 :]:
            end = text.index("]", at + 1)
            inside = text[at:end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[^{inside[1:]}]" if inside[0] in "^!" else f"[{inside}]")
            at = end + 1
        elif character == "{" and "}" in text[at:]:
            braces += 1
            parts.append("(?:")
        elif character in ",}" and braces:
            braces -= character == "}"
            parts.append("|" if character == "," else ")")
        else:
            parts.append(re.escape(character))
    try:
        return re.compile("".join(parts) + ")" * braces)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConversionFault(f"bad pattern: {error}") from None
