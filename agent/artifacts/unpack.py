"""What is in an archive, and nothing beside it: no way out of the directory, no device, no end without an end.

tarfile's own filter `data` refuses absolute names, `..`, links that lead out and devices, and takes special bits away. Links of the
archive are made and never followed here: that is how the filter itself was outwitted (CVE-2025-4517). What zipfile leaves to its
caller is done here. Every byte that is unpacked is counted.
"""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat as modes
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from agent.drivers.base import StartFailed

# Nomad's `decompression_size_limit` and `decompression_file_count_limit`.
BYTES_MAX = 100 << 30
FILES_MAX = 4096
_CHUNK_BYTES = 1 << 20
_OPENERS: Mapping[str, Callable[..., Any]] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


def unpack(archive: Path, kind: str, where: Path, *, bytes_max: int = BYTES_MAX, files_max: int = FILES_MAX) -> None:
    """Of a tar or zip all of it into the directory, of a compressed file its content into `where` itself. Blocks.
    Raises StartFailed."""
    try:
        if kind == "zip":
            _zip(archive, where, bytes_max, files_max)
        elif "tar" in kind or kind.startswith("t"):
            _tar(archive, kind, where, bytes_max, files_max)
        else:
            with cast(IO[bytes], _OPENERS[kind](archive, "rb")) as packed, where.open("wb") as file:
                shutil.copyfileobj(_Counted(packed, bytes_max), file, _CHUNK_BYTES)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise StartFailed(f"cannot unpack ({kind}): {error}") from error
    except OSError as error:
        raise StartFailed(f"cannot unpack ({kind}): {error.strerror or error}") from error


class _Counted(io.RawIOBase):
    """Reads no more than so much."""

    def __init__(self, inner: IO[bytes], bytes_max: int) -> None:
        self._inner, self._left = inner, bytes_max

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size if size >= 0 else _CHUNK_BYTES)
        self._left -= len(data)
        if self._left < 0:
            raise StartFailed("the archive unpacks to more than is allowed")
        return data


def _tar(archive: Path, kind: str, where: Path, bytes_max: int, files_max: int) -> None:
    compression = {"tgz": "gz", "tbz2": "bz2", "txz": "xz", "tar": ""}.get(kind, kind.removeprefix("tar."))
    opener: Callable[..., Any] = _OPENERS.get(compression, open)
    where.mkdir()
    # Headers and padding count too: a little above what the files themselves may have.
    with (
        cast(IO[bytes], opener(archive, "rb")) as packed,
        tarfile.open(fileobj=cast(IO[bytes], _Counted(packed, bytes_max + (16 << 20))), mode="r|") as tar,
    ):
        left = bytes_max
        for number, member in enumerate(tar):
            if number >= files_max:
                raise StartFailed(f"the archive has more than {files_max} files")
            left -= member.size
            if left < 0:
                raise StartFailed("the archive unpacks to more than is allowed")
            _check_links(where, member.name)
            if member.islnk():
                _check_links(where, member.linkname, is_whole=True)
            tar.extract(member, where, filter="data")


def _check_links(where: Path, name: str, *, is_whole: bool = False) -> None:
    """That no directory on the way, with is_whole the end too, is a link."""
    parts = _parts(name.split("/"))
    here = where
    for part in parts if is_whole else parts[:-1]:
        here /= part
        if here.is_symlink():
            raise StartFailed(f"{name!r} in the archive leads through a link")


def _zip(archive: Path, where: Path, bytes_max: int, files_max: int) -> None:
    where.mkdir()
    with zipfile.ZipFile(archive) as packed:
        if len(packed.infolist()) > files_max:
            raise StartFailed(f"the archive has more than {files_max} files")
        left = bytes_max
        for member in packed.infolist():
            path = _inside(where, member.filename)
            mode = member.external_attr >> 16
            if modes.S_ISLNK(mode):
                raise StartFailed(f"{member.filename!r} in the archive is a link")
            if member.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as file, path.open("xb") as out:
                left -= _copy(file, out, left)
            os.chmod(path, 0o644 | (mode & 0o111))


def _copy(file: IO[bytes], out: IO[bytes], bytes_max: int) -> int:
    """The size that an archive tells of a file is not believed."""
    done = 0
    while chunk := file.read(_CHUNK_BYTES):
        done += len(chunk)
        if done > bytes_max:
            raise StartFailed("the archive unpacks to more than is allowed")
        out.write(chunk)
    return done


def _inside(where: Path, name: str) -> Path:
    parts = _parts(name.replace("\\", "/").split("/"))
    if name.startswith(("/", "\\")) or ".." in parts or not parts or "\0" in name:
        raise StartFailed(f"{name!r} in the archive leads out of its directory")
    return where.joinpath(*parts)


def _parts(names: Iterable[str]) -> list[str]:
    return [one for one in names if one not in ("", ".")]
