"""What of an alloc's directory may be read, and that nothing else is, whatever its task does meanwhile."""

import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import alloc_archive
from agent.alloc_files import AllocFiles, PathEscapes, SecretFile, Unreadable, go_mode
from model.errors import TaskRefused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An alloc's directory, and beside it what is nobody's business."""
    root = tmp_path / "alloc-id"
    for folder in ("alloc/data", "alloc/logs", "t/local", "t/secrets"):
        (root / folder).mkdir(parents=True)
    (root / "t/local/file").write_text("inside")
    (root / "t/secrets/key").write_text("secret")
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "alloc-id-2").mkdir()
    (tmp_path / "alloc-id-2/file").write_text("another's")
    return root


@pytest.fixture(params=["openat2", "an old kernel"])
def files(request: pytest.FixtureRequest, root: Path) -> AllocFiles:
    return AllocFiles(root, use_openat2=request.param == "openat2")


def read(files: AllocFiles, path: str) -> str:
    descriptor = files.open(path)
    try:
        return os.read(descriptor, 1000).decode()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", ["t/local/file", "/t/local/file", "t//./local/../local/file", "/t/local/file/"])
def test_a_path_may_be_written_in_several_ways(files: AllocFiles, path: str) -> None:
    assert read(files, path) == "inside"


@pytest.mark.parametrize("path", ["..", "../outside", "/../outside", "t/../../outside", "../alloc-id-2/file", "/../../../../../etc/passwd"])
def test_a_path_that_leads_outside_is_refused_by_its_letters(files: AllocFiles, path: str) -> None:
    for ask in (files.open, files.ls, files.stat):
        with pytest.raises(PathEscapes, match=r"^Path escapes the alloc directory$"):
            ask(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../outside", "/proc/self/environ", "../../../alloc-id-2/file"])
def test_a_link_that_leads_outside_is_not_followed(root: Path, target: str) -> None:
    files = AllocFiles(root)
    (root / "t/local/link").symlink_to(target)
    (root / "t/local/folder").symlink_to(os.path.dirname(target))
    for ask in (files.open, files.stat):
        for path in ("t/local/link", f"t/local/folder/{os.path.basename(target)}"):
            with pytest.raises(PathEscapes):
                ask(path)
    with pytest.raises(PathEscapes):
        files.ls("t/local/folder")


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "t/local/link").symlink_to("../local/file")
    assert read(AllocFiles(root), "t/local/link") == "inside"
    assert AllocFiles(root).stat("t/local/link").size == 6


def test_an_old_kernel_follows_no_link_at_all(root: Path) -> None:
    files = AllocFiles(root, use_openat2=False)
    (root / "t/local/link").symlink_to("file")
    (root / "t/local/out").symlink_to("/etc")
    for path in ("t/local/link", "t/local/out/passwd"):
        with pytest.raises(Unreadable, match="too many levels of symbolic links"):
            files.open(path)


@pytest.mark.parametrize("path", ["t/secrets/key", "t/secrets/../secrets/key", "/t/./secrets//key", "t/secrets/none"])
def test_secrets_are_not_read(files: AllocFiles, path: str) -> None:
    for ask in (files.open, files.stat, files.ls):
        with pytest.raises(SecretFile, match=r"^Reading secret file prohibited: "):
            ask(path)
    with pytest.raises(SecretFile):
        files.ls("t/secrets")
    assert files.stat("t/secrets").is_dir
    assert "secrets" in {info.name for info in files.ls("t")}


def test_secrets_are_not_read_by_way_of_a_link(root: Path) -> None:
    (root / "t/local/key").symlink_to("../secrets/key")
    (root / "alloc/data/all").symlink_to("../../t/secrets")
    files = AllocFiles(root)
    for path in ("t/local/key", "alloc/data/all/key"):
        with pytest.raises(SecretFile):
            files.open(path)
    with pytest.raises(SecretFile):
        files.ls("alloc/data/all")


def _a_fifo(path: Path) -> None:
    os.mkfifo(path)


def _a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _a_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(5, 0))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize("make", [_a_fifo, _a_socket, _a_device])
def test_what_is_no_file_is_told_and_never_opened(root: Path, files: AllocFiles, make: Callable[[Path], None]) -> None:
    make(root / "t/local/odd")
    with pytest.raises(Unreadable, match="is no regular file"):
        files.open("t/local/odd")
    assert files.stat("t/local/odd").mode[0] in "pSD"
    assert [info.name for info in files.ls("t/local")] == ["file", "odd"]


def test_links_that_lead_round_are_an_error_and_no_loop(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(Unreadable, match="too many levels of symbolic links"):
        AllocFiles(root).open("a")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none", "stat none: no such file or directory"),
        ("t/local/file/none", "not a directory"),
        ("t/local", 'file "t/local" is a directory'),
        ("", 'file "" is a directory'),
        ("a\0b", "invalid argument"),
        ("\ud800", "invalid argument"),
        ("x" * 5000, "file name too long"),
    ],
)
def test_what_cannot_be_opened_is_said_in_gos_words(files: AllocFiles, path: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        files.open(path)


def test_nothing_outside_is_ever_read_while_a_link_is_swapped_in(root: Path) -> None:
    """A directory and a link to one of elsewhere change places as fast as they can."""
    (root / "swap").mkdir()
    (root / "swap/file").write_text("inside")
    (root / "link").symlink_to("../alloc-id-2")
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            for source, target in (("swap", "kept"), ("link", "swap"), ("swap", "link"), ("kept", "swap")):
                os.rename(root / source, root / target)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[str] = set()
    try:
        files = AllocFiles(root)
        for _ in range(20_000):
            try:
                seen.add(read(files, "swap/file"))
            except TaskRefused as error:
                seen.add(type(error).__name__)
    finally:
        is_over.set()
        swapping.join()
    assert "inside" in seen
    assert "PathEscapes" in seen  # the link was met
    assert seen <= {"inside", "PathEscapes", "NotThere", "Unreadable"}


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (0o100644, "-rw-r--r--"),
        (0o040755, "drwxr-xr-x"),
        (0o041777, "dtrwxrwxrwx"),
        (0o120777, "Lrwxrwxrwx"),
        (0o010600, "prw-------"),
        (0o140755, "Srwxr-xr-x"),
        (0o060660, "Drw-rw----"),
        (0o020620, "Dcrw--w----"),
        (0o104755, "urwxr-xr-x"),
        (0o102755, "grwxr-xr-x"),
    ],
)
def test_modes_are_written_as_go_writes_them(mode: int, text: str) -> None:
    assert go_mode(mode) == text


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a", b"text\n", "text/plain; charset=utf-8"),
        ("a", b"", "text/plain; charset=utf-8"),
        ("a.json", b"{}", "application/json"),
        ("a.txt", b"\x00\x01", "application/octet-stream"),
        ("a", b"\x89PNG\r\n\x1a\n", "image/png"),
    ],
)
def test_what_a_file_holds_is_guessed_by_its_first_bytes(root: Path, name: str, data: bytes, kind: str) -> None:
    (root / "t/local" / name).write_bytes(data)
    assert AllocFiles(root).stat(f"t/local/{name}").content_type == kind


def packed(root: Path, tasks: list[str]) -> dict[str, str | None]:
    """{name: what it holds}; None for a directory, `-> target` for a link."""
    out = io.BytesIO()
    alloc_archive.write(root, tasks, out)
    out.seek(0)
    found: dict[str, str | None] = {}
    with tarfile.open(fileobj=out) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isreg() else None
            found[entry.name] = file.read().decode() if file else f"-> {entry.linkname}" if entry.issym() else None
    return found


def test_a_snapshot_holds_data_and_local_and_no_secret(root: Path) -> None:
    (root / "alloc/data/sub").mkdir()
    (root / "alloc/data/sub/.hidden").write_text("kept")
    (root / "t/local/link").symlink_to("/etc/passwd")
    (root / "t/local/to-secrets").symlink_to("../secrets")
    os.mkfifo(root / "t/local/fifo")
    assert packed(root, ["t", "none"]) == {
        "alloc/data": None,
        "alloc/data/sub": None,
        "alloc/data/sub/.hidden": "kept",
        "t/local": None,
        "t/local/file": "inside",
        "t/local/link": "-> /etc/passwd",
        "t/local/to-secrets": "-> ../secrets",
    }


def test_a_snapshot_follows_no_link_in_place_of_a_directory(root: Path) -> None:
    (root / "alloc/data").rmdir()
    (root / "alloc/data").symlink_to("/etc")
    assert packed(root, []) == {}


@pytest.fixture
def growing(root: Path) -> Iterator[Path]:
    """A file that changes its length all the time."""
    path, is_over = root / "alloc/data/grows", threading.Event()
    path.write_bytes(b"x" * 1_000_000)

    def change() -> None:
        while not is_over.is_set():
            with suppress(OSError):
                os.truncate(path, 10)
                os.truncate(path, 2_000_000)

    thread = threading.Thread(target=change)
    thread.start()
    yield path
    is_over.set()
    thread.join()


def test_a_snapshot_of_a_file_that_changes_meanwhile_is_still_a_whole_tar(root: Path, growing: Path) -> None:
    for _ in range(20):
        assert set(packed(root, [])) == {"alloc/data", f"alloc/data/{growing.name}"}
