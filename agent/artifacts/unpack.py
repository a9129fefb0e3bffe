"""What is in an archive, and nothing beside it: no way out of the directory, no device, no end without an end.

Of tarfile and zipfile only the reading is used. What they unpack by themselves has been outwitted time and again (CVE-2025-4517:
tarfile's filter `data`, by links that a long path hides), and the Python that runs drover may be an old one; tree.py
writes. Every byte that is unpacked is counted, and no part of an archive is read into memory that could be large.
"""

import bz2
import gzip
import io
import lzma
import os
import stat as modes
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from agent.artifacts.tree import CHUNK_BYTES, Tree, copy
from agent.artifacts.work import Work
from agent.drivers.base import StartFailed
from jobspec.artifacts import SINGLE

_BLOCK_BYTES = 64 << 10
# Of a tar, between two members. The longest names and attributes that Linux has take less.
_HEADER_BYTES_MAX = 2 << 20
# A zip's directory, too; as much for a file, and at least and at most so much.
_ENTRY_BYTES = 1024
_DIRECTORY_BYTES_MIN, _DIRECTORY_BYTES_MAX = 1 << 20, 64 << 20
# `xz -9` needs 65 MiB to unpack; a header may ask for 4 GiB.
_XZ_BYTES_MAX = 256 << 20
_LINK_BYTES_MAX = 4096
_SHORT = {"tgz": "tar.gz", "tbz2": "tar.bz2", "txz": "tar.xz"}


def unpack(archive: Path, kind: str, where: Path, work: Work) -> None:
    """Of a tar or zip all of it into the new directory `where`, of a compressed file its content into `where` itself.
    Blocks. Raises StartFailed."""
    try:
        if kind == "zip":
            _zip(archive, where, work)
        elif kind in SINGLE:
            with _opened(archive, kind) as packed, where.open("xb") as file:
                copy(packed, file, work)
        else:
            _tar(archive, _SHORT.get(kind, kind).removeprefix("tar").removeprefix("."), where, work)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise StartFailed(f"cannot unpack ({kind}): {error}") from error
    except OSError as error:
        raise StartFailed(f"cannot unpack ({kind}): {error.strerror or error}") from error


def _opened(archive: Path, compression: str) -> IO[bytes]:
    openers: Mapping[str, Callable[[Path], Any]] = {"": lambda path: path.open("rb"), "gz": gzip.open, "bz2": bz2.open, "xz": _Xz}
    return cast(IO[bytes], openers[compression](archive))


class _Xz(io.RawIOBase):
    """As lzma.open, with a limit for the memory that the file may ask for."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._unpacker = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=_XZ_BYTES_MAX)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while True:
            packed = b""
            if self._unpacker.eof:  # another stream may follow, after padding
                packed = self._unpacker.unused_data.lstrip(b"\0") or self._file.read(CHUNK_BYTES).lstrip(b"\0")
                if not packed:
                    return b""
                self._unpacker = self._new()
            elif self._unpacker.needs_input:
                packed = self._file.read(CHUNK_BYTES)
                if not packed:
                    raise EOFError("the compressed file ends too early")
            if data := self._unpacker.decompress(packed, size):
                return data

    def close(self) -> None:
        self._file.close()
        super().close()


class _Headers(io.RawIOBase):
    """tarfile holds what it knows of a member in memory: names, attributes, maps of holes. left: how much may be read
    before the next member is there; None: it is there, and its content is counted as it is written."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.left: int | None = _HEADER_BYTES_MAX

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise StartFailed("a header in the archive is too large")
        return data


def _tar(archive: Path, compression: str, where: Path, work: Work) -> None:
    tree = Tree(where, work)
    with _opened(archive, compression) as packed:
        headers = _Headers(packed)
        with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r|", bufsize=_BLOCK_BYTES) as tar:
            for member in tar:
                headers.left = None
                if member.isdir():
                    tree.folder(member.name, member.mode)
                elif member.issym():
                    tree.symlink(member.name, member.linkname)
                elif member.islnk():
                    tree.hardlink(member.name, member.linkname)
                elif member.isreg() and (content := tar.extractfile(member)):
                    tree.file(member.name, member.mode, content)
                else:
                    raise StartFailed(f"{member.name!r} in the archive is a device or something else that is no file")
                headers.left = _HEADER_BYTES_MAX


class _Zip(io.FileIO):
    """zipfile reads the directory of an archive at once, however large it says it is."""

    def __init__(self, path: Path, files_max: int) -> None:
        super().__init__(path)
        self._bytes_max = min(max(files_max * _ENTRY_BYTES, _DIRECTORY_BYTES_MIN), _DIRECTORY_BYTES_MAX) if files_max else _DIRECTORY_BYTES_MAX

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self._bytes_max:
            raise StartFailed("the archive's directory is too large")
        return super().read(-1 if size is None else size)


def _zip(archive: Path, where: Path, work: Work) -> None:
    tree = Tree(where, work)
    with _Zip(archive, work.files_max) as file, zipfile.ZipFile(cast(IO[bytes], file)) as packed:
        for member in packed.infolist():
            name, mode = member.filename.replace("\\", "/"), member.external_attr >> 16
            if member.is_dir() or name.endswith("/"):
                tree.folder(name, mode or 0o755)
                continue
            # The others take as much memory to unpack as the archive says.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
                raise StartFailed(f"{member.filename!r} in the archive is packed in a way that drover does not unpack")
            with packed.open(member) as content:
                if modes.S_ISLNK(mode):
                    tree.symlink(name, os.fsdecode(content.read(_LINK_BYTES_MAX)))
                elif modes.S_IFMT(mode) in (0, modes.S_IFREG):
                    tree.file(name, mode or 0o644, content)
                else:
                    raise StartFailed(f"{member.filename!r} in the archive is a device or something else that is no file")
