"""Archives: each attack that is known, built here, and what is unpacked as it should be."""

import bz2
import gzip
import io
import lzma
import os
import stat as modes
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.artifacts import tree
from agent.artifacts.unpack import unpack
from agent.artifacts.work import Work
from agent.drivers.base import StartFailed

Entry = tuple[str, bytes, str, int, bytes]  # name, tar's type, link's target, mode, content


def work(bytes_max: int = 1 << 30, files_max: int = 100) -> Work:
    return Work(ThreadPoolExecutor(1), bytes_max, files_max)


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> Entry:
    return (name, tarfile.REGTYPE, "", mode, content)


def folder(name: str, mode: int = 0o755) -> Entry:
    return (name, tarfile.DIRTYPE, "", mode, b"")


def link(name: str, target: str) -> Entry:
    return (name, tarfile.SYMTYPE, target, 0o777, b"")


def hard(name: str, target: str) -> Entry:
    return (name, tarfile.LNKTYPE, target, 0o644, b"")


def packed(path: Path, entries: Iterable[Entry], compression: str = "gz") -> Path:
    with tarfile.open(path, f"w:{compression}") as tar:
        for name, kind, target, mode, content in entries:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.size = kind, target, mode, len(content)
            member.uid = member.gid = 12345
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where it is unpacked to, deep enough that what leads out of it is seen in tmp_path."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("untouched")
    return tmp_path / "a/b/out"


def untouched(tmp_path: Path) -> bool:
    inside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "a/b/out")}
    names = {str(path.relative_to(tmp_path)) for path in inside}
    status = (tmp_path / "victim").stat()
    return (
        names == {"a", "a/b", "victim", "victim/file", "archive"}
        and (tmp_path / "victim/file").read_text() == "untouched"
        and modes.S_IMODE(status.st_mode) == 0o755
    )


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz"])
def test_a_tar_is_unpacked(kind: str, out: Path, tmp_path: Path) -> None:
    compression = {"tar": "", "tgz": "gz", "tbz2": "bz2", "txz": "xz"}.get(kind, kind.removeprefix("tar."))
    long = "n" * 150
    packed(
        tmp_path / "archive",
        [
            folder("./", 0o700),
            folder("bin", 0o500),
            file("bin/run", b"#!/bin/sh\n", 0o4775),
            file("/absolute"),
            link("bin/again", "run"),
            link("up", "bin/../bin/run"),
            hard("second", "bin/run"),
            file(f"{long}/{long}", b"long"),
            file("twice", b"one"),
            file("twice", b"two"),
            file("private", b"", 0o200),
        ],
        compression,
    )
    unpack(tmp_path / "archive", kind, out, work())
    assert (out / "twice").read_text() == "two"
    assert (out / long / long).read_text() == "long"
    assert (out / "absolute").read_text() == "x"
    assert os.readlink(out / "bin/again") == "run"
    assert (out / "second").samefile(out / "bin/run")
    found = {name: modes.S_IMODE((out / name).stat().st_mode) for name in ("bin", "bin/run", "private", "twice")}
    assert found == {"bin": 0o700, "bin/run": 0o755, "private": 0o600, "twice": 0o644}
    assert (out / "twice").stat().st_uid == os.geteuid()
    assert untouched(tmp_path)


def hidden_by_a_long_path() -> list[Entry]:
    """CVE-2025-4517: realpath gives up on what is longer than PATH_MAX, and takes the last link for harmless."""
    part, entries, path = "d" * 247, [], ""
    for letter in "abcdefghijklmnop":
        entries += [folder(f"{path}{part}"), link(f"{path}{letter}", part)]
        path += f"{part}/"
    short = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    return [
        *entries,
        link(short, "../" * 16),
        link("escape", f"{short}/../../../victim"),
        hard("flaglink", "escape/file"),
        file("flaglink", b"overwritten"),
        file("escape/new", b"overwritten"),
    ]


ATTACKS: dict[str, tuple[list[Entry], str]] = {
    "dots": ([file("../../../victim/file")], "leads out of its directory"),
    "dots within": ([file("x/../../y")], "leads out of its directory"),
    "a directory of dots": ([folder("../../../victim")], "leads out of its directory"),
    "through a link": ([link("x", "../../../victim"), file("x/file")], "leads through a link"),
    "through a link to nowhere": ([link("x", "../../../victim/new"), file("x/file")], "leads through a link"),
    "through an absolute link": ([link("x", "/tmp"), file("x/drover-was-here")], "leads through a link"),
    "through a link of a link": ([folder("d"), link("d/x", ".."), link("y", "d/x/.."), file("y/out2")], "leads through a link"),
    "a directory where a link is": ([link("x", "../../../victim"), folder("x", 0o777)], "leads through a link"),
    "a hard link by dots": ([hard("x", "../../../victim/file"), file("x")], "leads out of its directory"),
    "a hard link through a link": ([link("l", "../../../victim"), hard("x", "l/file"), file("x")], "leads through a link"),
    "a hard link to a link": ([link("l", "../../../victim/file"), hard("x", "l")], "no file of it"),
    "a hard link to nothing": ([hard("x", "nothing")], "no file of it"),
    "a hard link to a directory": ([folder("d"), hard("x", "d")], "no file of it"),
    "a hard link to itself": ([hard("x", "x")], "no file of it"),
    "a hard link to the top": ([hard("x", ".")], "no file of it"),
    "a device": ([("x", tarfile.CHRTYPE, "", 0o666, b"")], "is a device"),
    "a disk": ([("x", tarfile.BLKTYPE, "", 0o666, b"")], "is a device"),
    "a fifo": ([("x", tarfile.FIFOTYPE, "", 0o666, b"")], "is a device"),
    "a name of nothing": ([file("./.")], "no name of a file"),
    "a file where a directory is": ([folder("d"), file("d")], "directory"),
    "a directory where a file is": ([file("d"), file("d/x")], "leads through a link or a file"),
    "too deep": ([file("d/" * 101 + "x")], "directories deep"),
    "a name that is too long": ([file("n" * 300)], "File name too long"),
    "hidden by a long path": (hidden_by_a_long_path(), "leads (through a link|out)"),
    "many files": ([file(f"{number}") for number in range(101)], "more than 100 files"),
    "many directories": ([file("d/" * 60 + "x"), file("e/" * 60 + "x")], "more than 100 files"),
    "many bytes": ([file("a", b"x" * 600_000), file("b", b"x" * 600_000)], "more than 1000000 bytes"),
}


@pytest.mark.parametrize("case", ATTACKS)
def test_no_tar_leads_out_of_its_directory(case: str, out: Path, tmp_path: Path) -> None:
    entries, words = ATTACKS[case]
    packed(tmp_path / "archive", entries)
    with pytest.raises(StartFailed, match=words):
        unpack(tmp_path / "archive", "tar.gz", out, work(bytes_max=1_000_000))
    assert untouched(tmp_path)
    assert not Path("/tmp/drover-was-here").exists()


def test_a_file_takes_the_place_of_a_link_and_is_not_written_through_it(out: Path, tmp_path: Path) -> None:
    packed(tmp_path / "archive", [link("x", "../../../victim/file"), file("x", b"mine")])
    unpack(tmp_path / "archive", "tar.gz", out, work())
    assert (out / "x").read_text() == "mine"
    assert not (out / "x").is_symlink()
    assert untouched(tmp_path)


LINKS = {
    "names": ([file("d/f"), link("l", "d/f")], True),
    "up": ([folder("d"), link("d/l", "../x")], True),
    "to the top": ([folder("d"), link("d/l", "..")], True),
    "to nothing": ([link("l", "nothing")], True),
    "to itself": ([link("l", "l")], True),
    "absolute": ([link("l", "/etc/passwd")], False),
    "out": ([link("l", "../x")], False),
    "out from below": ([folder("d"), link("d/l", "../../x")], False),
    "back in by its name": ([link("l", "../out/x")], False),
    "through another": ([folder("d/e"), link("d/e/up", ".."), link("l", "d/e/up/../../x")], False),
    "into another": ([folder("d/e"), link("d/e/up", "../.."), link("l", "d/e/up")], True),
}


@pytest.mark.parametrize("case", LINKS)
def test_a_link_must_not_lead_out_of_what_was_fetched(case: str, out: Path, tmp_path: Path) -> None:
    entries, is_fine = LINKS[case]
    packed(tmp_path / "archive", entries)
    unpack(tmp_path / "archive", "tar.gz", out, work())
    if is_fine:
        tree.check(out, work())
    else:
        with pytest.raises(StartFailed, match="is a link that leads out"):
            tree.check(out, work())


def test_what_is_no_file_and_special_permissions_do_not_pass(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d/run").write_text("x")
    os.chmod(top / "d/run", 0o6777)
    os.chmod(top / "d", 0o1777)
    tree.check(top, work())
    assert [modes.S_IMODE((top / name).stat().st_mode) for name in ("d", "d/run")] == [0o755, 0o755]
    os.mkfifo(top / "d/fifo")
    with pytest.raises(StartFailed, match="'d/fifo' is a device"):
        tree.check(top, work())


HEADERS: dict[str, Callable[[], bytes]] = {
    "a name of a gigabyte": lambda: header(tarfile.GNUTYPE_LONGNAME, 1 << 30) + bytes(4 << 20),
    "attributes of a gigabyte": lambda: header(tarfile.XHDTYPE, 1 << 30) + bytes(4 << 20),
    "one header after the other": lambda: (header(tarfile.XGLTYPE, 512) + b"11 a=bcdef\n".ljust(512, b"\0")) * 20_000,
    "a map without an end": lambda: sparse() + (bytes(504) + b"\1" + bytes(7)) * 10_000,
}


def header(kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse() -> bytes:
    """An old GNU map of holes that says that it goes on."""
    data = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    data[257:265], data[482] = b"ustar  \0", 1
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


@pytest.mark.parametrize("case", HEADERS)
def test_headers_take_no_memory(case: str, out: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(gzip.compress(HEADERS[case](), 1))
    with pytest.raises(StartFailed, match=r"a header in the archive is too large|recursion"):
        unpack(tmp_path / "archive", "tar.gz", out, work())


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_single_file_is_unpacked_and_its_bytes_are_counted(kind: str, out: Path, tmp_path: Path) -> None:
    compress: Callable[[bytes], bytes] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
    padding = bytes(8) if kind == "xz" else b""
    (tmp_path / "archive").write_bytes(compress(b"a" * 3_000_000) + padding + compress(b"b"))
    unpack(tmp_path / "archive", kind, out, work())
    assert out.read_bytes() == b"a" * 3_000_000 + b"b"
    out.unlink()
    with pytest.raises(StartFailed, match="more than 2000000 bytes"):
        unpack(tmp_path / "archive", kind, out, work(bytes_max=2_000_000))


def test_an_xz_that_asks_for_too_much_memory_is_refused(out: Path, tmp_path: Path) -> None:
    compressor = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}])
    data = bytearray(compressor.compress(b"x" * 100) + compressor.flush())
    at = data.index(bytes([0x21, 0x01]))  # the filter and the size of its properties, then the size of the dictionary
    data[at + 2] = 40  # 4 GiB - 1
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(bytes(data[12 : 12 + size - 4])))
    (tmp_path / "archive").write_bytes(bytes(data))
    with pytest.raises(StartFailed, match=r"[Mm]emory usage limit"):
        unpack(tmp_path / "archive", "xz", out, work())


def zipped(path: Path, entries: Iterable[tuple[str, int, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, mode, content in entries:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16 | 0x20, method
            archive.writestr(member, content)
    return path


def test_a_zip_is_unpacked(out: Path, tmp_path: Path) -> None:
    entries = [
        ("d/", modes.S_IFDIR | 0o777, b""),
        ("d/run", modes.S_IFREG | 0o4777, b"run"),
        ("plain", 0, b"plain"),
        ("back\\slash", 0, b"windows"),
        ("again", modes.S_IFLNK | 0o777, b"d/run"),
    ]
    zipped(tmp_path / "archive", entries)
    unpack(tmp_path / "archive", "zip", out, work())
    tree.check(out, work())
    assert [(out / name).read_text() for name in ("d/run", "plain", "back/slash", "again")] == ["run", "plain", "windows", "run"]
    assert [modes.S_IMODE((out / name).stat().st_mode) for name in ("d", "d/run", "plain")] == [0o755, 0o755, 0o644]


ZIP_ATTACKS: dict[str, tuple[list[tuple[str, int, bytes]], str]] = {
    "dots": ([("../../../victim/file", 0, b"x")], "leads out"),
    "dots of another kind": ([("..\\..\\..\\victim\\file", 0, b"x")], "leads out"),
    "through a link": ([("x", modes.S_IFLNK, b"../../../victim"), ("x/file", 0, b"x")], "leads through a link"),
    "a device": ([("x", modes.S_IFCHR | 0o666, b"")], "is a device"),
    "many files": ([(f"{number}", 0, b"") for number in range(101)], "more than 100 files"),
    "many bytes": ([("x", 0, b"x" * 600_000), ("y", 0, b"x" * 600_000)], "more than 1000000 bytes"),
}


@pytest.mark.parametrize("case", ZIP_ATTACKS)
def test_no_zip_leads_out_of_its_directory(case: str, out: Path, tmp_path: Path) -> None:
    entries, words = ZIP_ATTACKS[case]
    zipped(tmp_path / "archive", entries)
    with pytest.raises(StartFailed, match=words):
        unpack(tmp_path / "archive", "zip", out, work(bytes_max=1_000_000))
    assert untouched(tmp_path)


def test_a_zip_that_lies_about_its_sizes_is_not_believed(out: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "archive", [("x", 0, b"x" * 5_000_000)])
    data = (tmp_path / "archive").read_bytes()
    (tmp_path / "archive").write_bytes(data.replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10)))
    with pytest.raises(StartFailed):
        unpack(tmp_path / "archive", "zip", out, work(bytes_max=1_000_000))
    assert sum(path.stat().st_size for path in out.rglob("*")) <= 1_000_000


def test_a_zip_with_a_huge_directory_is_not_read(out: Path, tmp_path: Path) -> None:
    size = 8 << 20
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    (tmp_path / "archive").write_bytes(bytes(size) + end)
    with pytest.raises(StartFailed, match="directory is too large"):
        unpack(tmp_path / "archive", "zip", out, work())


def test_a_zip_packed_in_a_rare_way_is_refused(out: Path, tmp_path: Path) -> None:
    zipped(tmp_path / "archive", [("x", 0, b"x")], zipfile.ZIP_LZMA)
    with pytest.raises(StartFailed, match="packed in a way"):
        unpack(tmp_path / "archive", "zip", out, work())


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "gz", "bz2", "xz"])
@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4" + bytes(100), b"\x1f\x8b\x08" + bytes(50), b"BZh9" + bytes(50), b"\xfd7zXZ\0" + bytes(50)])
def test_what_is_no_archive_is_refused(kind: str, content: bytes, out: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    if content == b"" and kind == "gz":
        unpack(tmp_path / "archive", kind, out, work())
        assert out.read_bytes() == b""
    else:
        with pytest.raises(StartFailed, match="cannot unpack"):
            unpack(tmp_path / "archive", kind, out, work())


@pytest.mark.parametrize("kind", ["tar.gz", "zip", "xz"])
def test_a_broken_archive_is_refused(kind: str, out: Path, tmp_path: Path) -> None:
    noise = os.urandom(200_000)
    if kind == "zip":
        zipped(tmp_path / "archive", [("x", 0, noise)], zipfile.ZIP_STORED)
    elif kind == "xz":
        (tmp_path / "archive").write_bytes(lzma.compress(noise))
    else:
        packed(tmp_path / "archive", [file("x", noise)])
    data = bytearray((tmp_path / "archive").read_bytes())
    (tmp_path / "archive").write_bytes(data[:100_000] if kind != "zip" else data[:1000] + b"?" + data[1001:])
    with pytest.raises(StartFailed, match="cannot unpack"):
        unpack(tmp_path / "archive", kind, out, work())


def test_without_a_limit_nothing_is_too_much(out: Path, tmp_path: Path) -> None:
    packed(tmp_path / "archive", [file(f"{number}") for number in range(200)])
    unpack(tmp_path / "archive", "tar.gz", out, work(bytes_max=0, files_max=0))
    assert len(list(out.iterdir())) == 200
