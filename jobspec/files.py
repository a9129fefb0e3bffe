"""How is a job file read from disk, and what may a job's `file()` read?"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from jobspec.evaluate import Function
from jobspec.functions import checked
from jobspec.values import ConversionFault, Value, make_set, to_text
from model.errors import Fault, JobspecError

# Far above any real job (the largest of 653 has 56 kB), far below what would hurt to hold in memory.
SIZE_MAX = 10_000_000


def read_file(path: str | Path) -> bytes:
    """A file's bytes. Raises JobspecError with one line for anything that is no readable file."""
    try:
        # Non-blocking, or opening a FIFO would wait for its writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise JobspecError((Fault(message=f"{kind} (a file was expected)", where=str(path)),))
        with os.fdopen(handle, "rb", closefd=False) as stream:
            data = stream.read(SIZE_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(handle)
    if len(data) > SIZE_MAX:
        raise JobspecError((Fault(message=f"larger than {SIZE_MAX // 1_000_000} MB", where=str(path)),))
    return data


def _unreadable(path: str | Path, error: Exception) -> JobspecError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return JobspecError((Fault(message=f"cannot be read: {reason}", where=repr(str(path))[1:-1]),))


def file_functions(folder: Path) -> Mapping[str, Function]:
    """file(), fileexists(), fileset() and abspath(), with relative paths taken from `folder`."""

    def place(path: Value) -> Path:
        return folder / Path(to_text(path)).expanduser()

    def file(path: Value) -> Value:
        try:
            return read_file(place(path)).decode()
        except JobspecError as error:
            raise ConversionFault(str(error)) from None
        except UnicodeDecodeError:
            raise ConversionFault(f"{to_text(path)} is not UTF-8 text") from None

    def filebase64(path: Value) -> Value:
        from base64 import b64encode

        try:
            return b64encode(read_file(place(path))).decode()
        except JobspecError as error:
            raise ConversionFault(str(error)) from None

    def fileexists(path: Value) -> Value:
        return place(path).is_file()

    def fileset(directory: Value, pattern: Value) -> Value:
        base = place(directory)
        wanted = to_text(pattern)
        if Path(wanted).is_absolute() or not wanted:
            raise ConversionFault("a relative pattern required")
        return make_set([str(found.relative_to(base)) for found in base.glob(wanted) if found.is_file()])

    def abspath(path: Value) -> Value:
        return os.path.abspath(place(path))

    found: dict[str, Function] = {
        "file": file,
        "filebase64": filebase64,
        "fileexists": fileexists,
        "fileset": fileset,
        "abspath": abspath,
    }
    return {name: checked(function) for name, function in found.items()}
