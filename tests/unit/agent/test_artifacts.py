"""Artifacts by a real HTTP server and a real git, into real directories."""

import asyncio
import base64
import gzip
import hashlib
import os
import shutil
import stat as modes
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent import tmpfs
from agent.alloc_dir import DiskDirs, fetching_dir
from agent.artifacts import checksum, placing
from agent.artifacts.fetch import Fetcher
from agent.drivers.base import StartFailed, same_dirs
from agent.env import task_env
from agent.hooks.artifacts import ArtifactsHook
from agent.hooks.base import TaskContext
from agent.task_files import TaskFiles
from configs.settings import Artifact as Limits
from jobspec import canonicalize
from model.errors import TaskRefused
from model.job import Artifact
from tests.agent.doubles import NODE, a_job, a_task, an_alloc

DEFAULT = Limits()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Life:
    """An alloc's directories on disk, and agents that come and go. said: the task's history; waits: why it does not start yet."""

    def __init__(self, root: Path) -> None:
        self.dirs = DiskDirs(root / "allocs")
        (root / "allocs").mkdir()
        self.alloc = an_alloc().id
        self.dirs.build_alloc(self.alloc)
        self.dirs.build_task(self.alloc, "main", "", is_contained=False, has_secrets=False)
        self.task = self.dirs.task(self.alloc, "main").task
        self.said: list[str] = []
        self.waits: list[str | None] = []

    async def prepare(self, *artifacts: Artifact, hook: ArtifactsHook | None = None, limits: Limits = DEFAULT, **task: Any) -> None:
        context = self.context(*artifacts, **task)
        await (hook or ArtifactsHook(limits, Fetcher(limits=limits, pause_s=0.01))).prepare(context)

    def context(self, *artifacts: Artifact, **task: Any) -> TaskContext:
        job = a_job(a_task(artifacts=artifacts, **task))
        group = job.task_groups[0]
        desired, dirs = an_alloc(job=job), self.dirs.task(self.alloc, "main")
        return TaskContext(
            desired=desired,
            job=job,
            group=group,
            task=group.tasks[0],
            dirs=dirs,
            env=lambda: task_env(desired=desired, job=job, group=group, task=group.tasks[0], node=NODE, dirs=same_dirs(dirs)),
            say=lambda kind, message: self.said.append(f"{kind}: {message}"),
            waits=self.waits.append,
        )

    @property
    def left(self) -> list[str]:
        """What is still kept apart for it."""
        place = fetching_dir(self.dirs.path(self.alloc))
        return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())

    def tree(self, below: str = "local") -> dict[str, str]:
        top = self.task / below
        return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("*")) if path.is_file()}


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


@asynccontextmanager
async def served(**handlers: Handler) -> AsyncIterator[str]:
    """The server's address; each handler answers at its name and below."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}{{rest:.*}}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def body(data: bytes, seen: list[web.Request] | None = None) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        if seen is not None:
            seen.append(request)
        return web.Response(body=data)

    return answer


def artifact(source: str, destination: str = "local/", mode: str = "any", **more: Any) -> Artifact:
    return Artifact(getter_source=source, relative_dest=destination, getter_mode=mode, **more)


def tar_of(files: Mapping[str, str], path: Path) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            source = path.with_name("one")
            source.write_text(text)
            tar.add(source, name)
    return path.read_bytes()


def zip_of(files: Mapping[str, str], path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path.read_bytes()


# -- what lies where afterwards

FILES = {"bin/run": "run", "conf/a": "a", "conf/deep/b": "b"}
SHAPES: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "a file": ("f.bin", "local/", "any", {"f.bin": "plain"}),
    "a file into a new directory": ("f.bin", "local/x/y", "any", {"x/y/f.bin": "plain"}),
    "a file by its own name": ("f.bin", "local/named", "file", {"named": "plain"}),
    "a file with another name": ("f.bin?filename=g", "local", "any", {"g": "plain"}),
    "an archive": ("t.tar.gz", "local/", "any", FILES),
    "an archive into a directory": ("t.tar.gz", "local/t", "dir", {f"t/{name}": text for name, text in FILES.items()}),
    "a zip": ("z.zip", "local/", "any", FILES),
    "an archive as it is": ("z.zip?archive=false&filename=kept", "local", "any", {}),
    "an archive that its name does not tell": ("download?archive=tar.gz", "local", "any", FILES),
    "a part of an archive": ("t.tar.gz//conf", "local/", "any", {"a": "a", "deep/b": "b"}),
    "a file of an archive": ("t.tar.gz//conf/a", "local/", "any", {"a": "a"}),
    "a file of an archive by its name": ("t.tar.gz//conf/a", "local/n", "file", {"n": "a"}),
    "an archive of one file": ("one.tar.gz", "local/n", "file", {"n": "only"}),
    "a packed file": ("p.txt.gz", "local/", "any", {"p.txt": "packed"}),
    "a packed file by its name": ("p.txt.gz", "local/n", "file", {"n": "packed"}),
    "in the shared directory": ("f.bin", "../alloc/data", "any", {}),
    "absolute, as the task sees it": ("f.bin", "${NOMAD_TASK_DIR}/abs", "any", {"abs/f.bin": "plain"}),
}


@pytest.mark.parametrize("case", SHAPES)
async def test_what_was_fetched_lies_where_it_is_wanted(case: str, life: Life, tmp_path: Path) -> None:
    path, destination, mode, expected = SHAPES[case]
    packed = tar_of(FILES, tmp_path / "t")
    bodies = {
        "/f.bin": b"plain", "/t.tar.gz": packed, "/download": packed, "/z.zip": zip_of(FILES, tmp_path / "z"),
        "/one.tar.gz": tar_of({"d/only": "only"}, tmp_path / "o"), "/p.txt.gz": gzip.compress(b"packed"),
    }  # fmt: skip

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.path])

    async with served(**{"": answer}) as url:
        await life.prepare(artifact(f"{url}/{path}", destination, mode))
    if case == "an archive as it is":
        assert (life.task / "local/kept").read_bytes() == bodies["/z.zip"]
    elif case == "in the shared directory":
        assert (life.task.parent / "alloc/data/f.bin").read_text() == "plain"
    else:
        assert life.tree() == expected
    assert (life.left, life.said) == (["main/done"], ["Downloading Artifacts: Client is downloading artifacts"])
    assert life.waits[-1] is None


def test_a_file_that_is_wanted_by_its_name_has_it_by_default() -> None:
    document = {"ID": "j", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Driver": "raw_exec", "Artifacts": [{"GetterSource": "https://h/x.bin", "GetterMode": "file"}]}]}]}
    job = canonicalize(document)
    assert job.task_groups[0].tasks[0].artifacts[0].relative_dest == "local/x.bin"


REFUSED: dict[str, tuple[str, str, str]] = {
    "a directory as a file": ("t.tar.gz//conf", "file", "is a directory"),
    "an archive of many files as a file": ("t.tar.gz", "file", "is a directory"),
    "a file as a directory": ("f.bin", "dir", "is a file"),
    "a part that is not there": ("t.tar.gz//none", "any", "has no 'none'"),
    "not found": ("none", "any", "bad response code: 404"),
    "no archive": ("f.bin?archive=zip", "any", "cannot unpack"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_does_not_fit_is_told(case: str, life: Life, tmp_path: Path) -> None:
    path, mode, words = REFUSED[case]
    async with served(**{"f.bin": body(b"plain"), "t.tar.gz": body(tar_of(FILES, tmp_path / "t"))}) as url:
        with pytest.raises(StartFailed, match=words):
            await life.prepare(artifact(f"{url}/{path}", "local/x", mode))
    assert life.said[-1].startswith("Failed Artifact Download: Failed to download artifact: ")
    assert (life.tree(), life.left) == ({}, [])


async def test_source_options_headers_and_destination_are_interpolated(life: Life) -> None:
    seen: list[web.Request] = []
    one = artifact(
        "${SERVER}/f${NOMAD_ALLOC_INDEX}", "${WHERE}/x", getter_options={"filename": "${NOMAD_TASK_NAME}"}, getter_headers={"X-Who": "${node.unique.name}"}
    )
    async with served(f=body(b"it", seen)) as url:
        await life.prepare(one, env={"SERVER": url, "WHERE": "local/w"})
    assert life.tree() == {"w/x/main": "it"}
    assert seen[0].headers["X-Who"] == NODE.name
    assert (seen[0].path, seen[0].headers["Accept-Encoding"]) == ("/f0", "identity")


@pytest.mark.parametrize("source", ["s3::https://s3.amazonaws.com/b/k", "ftp://h/x", "hg::http://h/x", "relative"])
async def test_what_is_only_known_now_to_be_no_source_is_refused(source: str, life: Life) -> None:
    with pytest.raises(TaskRefused, match=r"is not supported|absolute path"):
        await life.prepare(artifact("${S}"), env={"S": source})


# -- HTTP in trouble

async def test_trouble_is_tried_again_and_a_clear_no_is_not(life: Life) -> None:
    tries: dict[str, int] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        count = tries[request.path] = tries.get(request.path, 0) + 1
        if request.path == "/cut" and count < 4:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport
            request.transport.abort()
            return response
        status = {"/flaky": 503 if count < 3 else 200, "/busy": 429 if count < 2 else 200, "/down": 500, "/gone": 404, "/no": 403}
        return web.Response(status=status.get(request.path, 200), body=b"it")

    async with served(**{"": answer}) as url:
        for name in ("flaky", "busy", "cut"):
            await life.prepare(artifact(f"{url}/{name}"))
        for name, words in (("down", "bad response code: 500"), ("gone", "code: 404"), ("no", "code: 403")):
            with pytest.raises(StartFailed, match=words):
                await life.prepare(artifact(f"{url}/{name}"))
    assert tries == {"/flaky": 3, "/busy": 2, "/cut": 4, "/down": 4, "/gone": 1, "/no": 1}
    assert life.tree() == {"flaky": "it", "busy": "it", "cut": "it"}
    with pytest.raises(StartFailed, match=r"Connect call failed|refused"):
        await life.prepare(artifact(f"{url}/flaky?gone"))


async def test_redirects_are_followed_and_only_over_http(life: Life) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.query["to"])

    async with served(r=answer, f=body(b"it")) as url:
        await life.prepare(artifact(f"{url}/r?to=/f"))
        for to in ("file:///etc/passwd", "/r?to=x", "ftp://h/x"):
            with pytest.raises(StartFailed):
                await life.prepare(artifact(f"{url}/r?to={to}", "local/none"))
    assert life.tree() == {"r": "it"}


async def test_an_answer_that_is_too_slow_or_too_large_ends_it(life: Life) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            for _ in range(600):
                await response.write(b"x" * 1000)
                await asyncio.sleep(0.05)
        return response

    async with served(slow=slow, large=body(b"x" * 10_001)) as url:
        with pytest.raises(StartFailed, match="more than 10000 bytes"):
            await life.prepare(artifact(f"{url}/large"), limits=Limits(http_max_size=10_000))
        with pytest.raises(StartFailed):
            await life.prepare(artifact(f"{url}/slow"), limits=Limits(http_read_timeout_s=0.2))
    assert (life.tree(), life.left) == ({}, [])


async def test_neither_headers_nor_passwords_nor_signatures_are_told(life: Life) -> None:
    async with served(f=body(b"it")) as url:
        for source in (f"{url}/none?sig=hidden", url.replace("//", "//me:hidden@") + "/none"):
            with pytest.raises(StartFailed):
                await life.prepare(artifact(source, getter_headers={"X-Token": "hidden"}))
        with pytest.raises(StartFailed):
            await life.prepare(artifact(f"{url}/f", getter_headers={"X-Token": "hidden\r\nX: y"}))
    assert "hidden" not in f"{life.said} {life.waits}"


async def test_the_machine_lends_its_passwords_to_nobody(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[web.Request] = []
    async with served(f=body(b"it", seen)) as url:
        await life.prepare(artifact(f"{url}/f"))
    assert "Authorization" not in seen[0].headers


async def test_a_proxy_of_the_environment_is_used(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[web.Request] = []
    async with served(**{"": body(b"by proxy", seen)}) as url:
        monkeypatch.setenv("http_proxy", url)
        await life.prepare(artifact("http://far.example/f"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await life.prepare(artifact(f"{url}/direct"))
    assert [request.headers["Host"] for request in seen] == ["far.example", url.removeprefix("http://")]


# -- checksums

SUMS = hashlib.sha256(b"it").hexdigest()
GOOD_SUMS = {
    "coreutils": f"{'0' * 64}  other\n{SUMS}  f.bin\n",
    "binary": f"# of the release\n\n{SUMS} *./dist/f.bin\n",
    "bsd": f"SHA256 (other) = {'0' * 64}\nSHA256 (f.bin) = {SUMS}\n",
    "alone": f"{SUMS.upper()}\n",
    "md5": f"{hashlib.md5(b'it').hexdigest()}  f.bin\n",
}


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256", "sha384", "sha512", ""])
async def test_a_checksum_decides(kind: str, life: Life) -> None:
    digits = hashlib.new(kind or "sha256", b"it").hexdigest()
    good, bad = (f"{kind}:{one}".lstrip(":") for one in (digits, digits[:-1] + ("0" if digits[-1] != "0" else "1")))
    async with served(f=body(b"it")) as url:
        await life.prepare(artifact(f"{url}/f?checksum={good}"))
        with pytest.raises(StartFailed, match=f"Checksums did not match: expected .*{bad[-32:]}, got .*{digits[-32:]}"):
            await life.prepare(artifact(f"{url}/f", "local/bad", getter_options={"checksum": bad}))
    assert life.tree() == {"f": "it"}


@pytest.mark.parametrize("kind", GOOD_SUMS)
async def test_a_file_of_checksums_is_read(kind: str, life: Life) -> None:
    async with served(**{"f.bin": body(b"it"), "SUMS": body(GOOD_SUMS[kind].encode())}) as url:
        await life.prepare(artifact(f"{url}/f.bin", getter_options={"checksum": f"file:{url}/SUMS?sig=1"}))
    assert life.tree() == {"f.bin": "it"}


@pytest.mark.parametrize("text", ["", f"{SUMS}  other", "no checksum", f"{'0' * 64}  f.bin\n{SUMS}  other", "x" * (5 << 20)], ids=range(5))
async def test_a_file_of_checksums_that_does_not_help_ends_it(text: str, life: Life) -> None:
    async with served(**{"f.bin": body(b"it"), "SUMS": body(text.encode())}) as url:
        with pytest.raises(StartFailed, match=r"has no checksum of f.bin|did not match|more than 4194304 bytes"):
            await life.prepare(artifact(f"{url}/f.bin", getter_options={"checksum": f"file:{url}/SUMS"}))
        with pytest.raises(StartFailed, match="404"):
            await life.prepare(artifact(f"{url}/f.bin", getter_options={"checksum": f"file:{url}/none"}))
    assert life.tree() == {}


async def test_a_checksum_is_of_what_was_fetched_and_not_of_what_is_in_it(life: Life, tmp_path: Path) -> None:
    data = tar_of(FILES, tmp_path / "t")
    async with served(t=body(data)) as url:
        await life.prepare(artifact(f"{url}/t.tgz", getter_options={"checksum": hashlib.sha1(data).hexdigest()}))
    assert life.tree() == FILES
    assert await checksum.expected(f"SHA1:{'a' * 40}".lower(), "x", _never) == ("sha1", "a" * 40)


async def _never(url: str) -> str:
    raise AssertionError(url)


# -- once, whole, and ended at once

async def test_it_is_fetched_once_for_an_alloc_by_whichever_agent(life: Life) -> None:
    seen: list[web.Request] = []
    async with served(f=body(b"it", seen)) as url:
        await life.prepare(artifact(f"{url}/f"))
        (life.task / "local/f").write_text("changed by the task")
        await life.prepare(artifact(f"{url}/f"))
        assert (len(seen), life.tree()) == (1, {"f": "changed by the task"})
        await life.prepare(artifact(f"{url}/f", getter_headers={"X": "y"}))
        assert (len(seen), life.tree()) == (2, {"f": "it"})
        await life.prepare(artifact(f"{url}/f?v=2", getter_headers={"X": "y"}))
        assert len(seen) == 3
        await life.dirs.remove(life.alloc)
        assert life.left == []
        life.dirs.build_alloc(life.alloc)
        life.dirs.build_task(life.alloc, "main", "", is_contained=False, has_secrets=False)
        await life.prepare(artifact(f"{url}/f"))
        assert (len(seen), life.tree()) == (4, {"f": "it"})


async def test_what_a_killed_agent_left_is_removed_and_fetched_again(life: Life) -> None:
    tries = fetching_dir(life.dirs.path(life.alloc)) / "main/tries"
    (tries / "old").mkdir(parents=True)
    (tries / "old/file").write_text("half")
    (tries.parent / "done").write_text("half a dig")
    async with served(f=body(b"it")) as url:
        await life.prepare(artifact(f"{url}/f"))
    assert (life.left, life.tree()) == (["main/done"], {"f": "it"})
    assert modes.S_IMODE(fetching_dir(life.dirs.path(life.alloc)).parent.stat().st_mode) == 0o700


async def test_a_stop_ends_a_download_at_once(life: Life) -> None:
    is_asked, is_over = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 100_000)
        is_asked.set()
        await is_over.wait()
        return response

    async with served(f=endless) as url, asyncio.TaskGroup() as group:
        task = group.create_task(life.prepare(artifact(f"{url}/f")))
        await is_asked.wait()
        begun_s = asyncio.get_running_loop().time()
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.get_running_loop().time() - begun_s < 2.0
        is_over.set()
    assert (life.left, life.tree(), life.waits[-1]) == ([], {}, None)


async def test_a_stop_ends_unpacking_at_once(life: Life) -> None:
    data = gzip.compress(bytes(1 << 20), 1) * 20_000  # 20 GiB
    async with served(f=body(data)) as url, asyncio.TaskGroup() as group:
        task = group.create_task(life.prepare(artifact(f"{url}/f.gz")))
        place = fetching_dir(life.dirs.path(life.alloc)) / "main/tries"
        while not list(place.glob("*/out")):
            await asyncio.sleep(0.01)
        begun_s = asyncio.get_running_loop().time()
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.get_running_loop().time() - begun_s < 2.0
    assert (life.left, life.tree()) == ([], {})


async def test_bombs_are_stopped_by_the_agents_limits(life: Life, tmp_path: Path) -> None:
    async with served(b=body(gzip.compress(bytes(1 << 20))), t=body(tar_of(FILES, tmp_path / "t"))) as url:
        with pytest.raises(StartFailed, match="unpacks to more than 1000 bytes"):
            await life.prepare(artifact(f"{url}/b.gz"), limits=Limits(decompression_size_limit=1000))
        with pytest.raises(StartFailed, match="more than 2 files"):
            await life.prepare(artifact(f"{url}/t.tgz"), limits=Limits(decompression_file_count_limit=2))
    assert (life.left, life.tree()) == ([], {})


# -- what a sibling planted

PLANTED: dict[str, Callable[[Life, Path], None]] = {
    "the directory": lambda life, victim: _link(life.task / "local/x", victim),
    "the directory above": lambda life, victim: _link(life.task / "local", victim),
    "a directory of the archive": lambda life, victim: _link(life.task / "local/x/conf", victim),
    "a link that is relative": lambda life, victim: _link(life.task / "local/x", Path("../../../../victim")),
    "a link to nowhere": lambda life, victim: _link(life.task / "local/x", victim / "new"),
    "a file on the way": lambda life, victim: (life.task / "local/x").write_text("in the way") and None,
    "a file for a directory": lambda life, victim: _write(life.task / "local/x/conf"),
}


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    path.symlink_to(target)


def _write(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("in the way")


@pytest.mark.parametrize("case", PLANTED)
async def test_a_link_in_the_way_leads_nowhere_else(case: str, life: Life, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    PLANTED[case](life, victim)
    async with served(t=body(tar_of(FILES, tmp_path / "t"))) as url:
        with pytest.raises(TaskRefused, match=r"leads out|through a link|through a file|Not a directory|No such file"):
            await life.prepare(artifact(f"{url}/t.tgz", "local/x"))
    assert list(victim.iterdir()) == []
    assert life.left == []


async def test_a_link_at_a_files_place_is_replaced(life: Life, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (life.task / "local/f").symlink_to(tmp_path / "victim")
    async with served(f=body(b"it")) as url:
        await life.prepare(artifact(f"{url}/f"))
    assert ((tmp_path / "victim").read_text(), life.tree()) == ("untouched", {"f": "it"})


@pytest.mark.parametrize("destination", ["${OUT}", "../../x", "${OUT}/local", "../other/secrets"])
async def test_no_destination_is_outside_or_among_anothers_secrets(destination: str, life: Life) -> None:
    life.dirs.build_task(life.alloc, "other", "", is_contained=False, has_secrets=False)
    async with served(f=body(b"it")) as url:
        with pytest.raises(TaskRefused, match=r"outside of the allocation|are another task's"):
            await life.prepare(artifact(f"{url}/f", destination), env={"OUT": "../../../out"})


async def test_a_sibling_that_swaps_directories_for_links_all_the_time_gets_nothing(life: Life, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    place, aside, link = life.task / "local/x", life.task / "local/aside", life.task / "local/link"
    place.mkdir()
    link.symlink_to(victim)
    is_over, placed = threading.Event(), 0

    def swap() -> None:
        while not is_over.is_set():
            for one, other in ((place, aside), (link, place), (place, link), (aside, place)):
                with suppress(OSError):
                    one.rename(other)

    files = TaskFiles(dirs=life.dirs.task(life.alloc, "main"), seen=same_dirs(life.dirs.task(life.alloc, "main")))
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(500):
            staged = tmp_path / "staged"
            (staged / "x/deep").mkdir(parents=True)
            (staged / "x/deep/f").write_text("x")
            (staged / "x").chmod(0o777)
            with suppress(TaskRefused):  # and StartFailed, which is one
                placing.place(staged, files, ("main", "local", *("x",) * (number % 2)))
                placed += 1
            shutil.rmtree(staged, ignore_errors=True)
    finally:
        is_over.set()
        thread.join()
    assert placed > 0
    assert list(victim.iterdir()) == []
    assert modes.S_IMODE(victim.stat().st_mode) == 0o700


async def test_directories_are_merged(life: Life, tmp_path: Path) -> None:
    (life.task / "local/conf").mkdir(mode=0o750)
    (life.task / "local/conf/own").write_text("own")
    (life.task / "local/conf/a").write_text("old")
    async with served(t=body(tar_of(FILES, tmp_path / "t"))) as url:
        await life.prepare(artifact(f"{url}/t.tgz"))
    assert life.tree() == {**FILES, "conf/own": "own"}
    assert modes.S_IMODE((life.task / "local/conf").stat().st_mode) == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
async def test_secrets_in_memory_take_artifacts_until_they_are_full(tmp_path: Path) -> None:
    life = Life(tmp_path)
    secrets = life.task / "secrets"
    tmpfs.mount(secrets, mode=0o700, size_mb=1)
    try:
        async with served(t=body(tar_of(FILES, tmp_path / "t")), large=body(os.urandom(2 << 20))) as url:
            await life.prepare(artifact(f"{url}/t.tgz", "secrets/t"), artifact(f"{url}/t.tgz//bin/run", "secrets/r", "file"))
            assert life.tree("secrets") == {**{f"t/{name}": text for name, text in FILES.items()}, "r": "run"}
            with pytest.raises(StartFailed, match="No space left"):
                await life.prepare(artifact(f"{url}/large", "secrets"))
            assert sorted(one.name for one in secrets.iterdir()) == ["r", "t"]
    finally:
        tmpfs.unmount(secrets)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_chown_makes_it_the_tasks_users(life: Life, tmp_path: Path) -> None:
    async with served(t=body(tar_of(FILES, tmp_path / "t"))) as url:
        await life.prepare(artifact(f"{url}/t.tgz", chown=True), artifact(f"{url}/t.tgz", "local/root"), user="nobody")
        with pytest.raises(TaskRefused, match="does not exist"):
            await life.prepare(artifact(f"{url}/t.tgz", chown=True), user="nobody-of-that-name")
        for user, driver, name in (("", "exec", "nobody"), ("12345:12346", "docker", "n"), ("12345", "docker", "m")):
            await life.prepare(artifact(f"{url}/t.tgz//conf/a", f"local/{name}", "file", chown=True), user=user, driver=driver)
    numbers = {name: ((life.task / "local" / name).stat().st_uid, (life.task / "local" / name).stat().st_gid) for name in ("n", "m")}
    assert numbers == {"n": (12345, 12346), "m": (12345, 12345)}
    assert (life.task / "local/nobody").owner() == "nobody"
    owners = {(life.task / "local" / name).owner() for name in ("conf", "conf/a", "conf/deep/b", "bin/run")}
    assert (owners, (life.task / "local/root/conf/a").owner()) == ({"nobody"}, "root")


# -- files of the machine

async def test_files_and_directories_of_the_machine_are_copied(life: Life, tmp_path: Path) -> None:
    tree = tmp_path / "srv/tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/f").write_text("f")
    (tree / "again").symlink_to("d/f")
    (tmp_path / "srv/link").symlink_to(tree)
    tar_of(FILES, tmp_path / "srv/t.tgz")
    await life.prepare(artifact(f"{tree}/d/f"), artifact(f"file://{tmp_path}/srv/link//d", "local/part"), artifact(f"{tmp_path}/srv/t.tgz", "local/t"))
    assert life.tree() == {"f": "f", "part/f": "f", **{f"t/{name}": text for name, text in FILES.items()}}
    (tree / "d/f").write_text("changed")
    assert life.tree()["f"] == "f"


async def test_of_the_machine_only_files_are_copied(life: Life, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    os.mkfifo(tmp_path / "srv/fifo")
    for source, words in ((f"{tmp_path}/none", "No such file"), ("/dev/zero", "is a device"), (f"{tmp_path}/srv", "is a device")):
        with pytest.raises(StartFailed, match=words):
            await life.prepare(artifact(source))
    (tmp_path / "srv/fifo").unlink()
    (tmp_path / "srv/link").symlink_to("/etc/shadow")
    with pytest.raises(StartFailed, match="leads out of what was fetched"):
        await life.prepare(artifact(f"{tmp_path}/srv"))
    assert life.tree() == {}


# -- git

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git on this machine")


def _git(where: Path, *argv: str) -> str:
    identity = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    settings = {"HOME": str(where), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", **identity}
    done = subprocess.run(["git", "-c", "init.defaultBranch=main", *argv], cwd=where, env=settings, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Served by files alone. main: two commits; a branch `old` and a tag `v1` at the first."""
    work = tmp_path / "work"
    work.mkdir()
    _git(work, "init", "-q", ".")
    (work / "conf").mkdir()
    for text in ("one", "two"):
        (work / "conf/f").write_text(text)
        _git(work, "add", ".")
        _git(work, "commit", "-q", "-m", text)
        if text == "one":
            _git(work, "branch", "old")
            _git(work, "tag", "v1")
    _git(tmp_path, "clone", "-q", "--bare", "work", "r.git")
    _git(tmp_path / "r.git", "update-server-info")
    return tmp_path / "r.git"


def _files(root: Path) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        path = root / request.path.lstrip("/")
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    return answer


@needs_git
@pytest.mark.parametrize(("ref", "text"), [("", "two"), ("old", "one"), ("v1", "one"), ("commit", "one")])
async def test_a_repository_is_fetched_at_what_is_asked_for(ref: str, text: str, repository: Path, life: Life) -> None:
    wanted = _git(repository, "rev-parse", "v1") if ref == "commit" else ref
    async with served(r=_files(repository.parent)) as url:
        await life.prepare(artifact(f"git::{url}/r.git", "local/r", getter_options={"ref": wanted} if wanted else {}))
        await life.prepare(artifact(f"git::{url}/r.git//conf?ref={wanted}", "local/part"))
    assert life.tree() == {"r/conf/f": text, "part/f": text}
    assert life.left == ["main/done"]


@needs_git
async def test_a_repository_that_is_not_there_or_not_allowed_is_told(repository: Path, life: Life, tmp_path: Path) -> None:
    async with served(r=_files(repository.parent)) as url:
        for source, words in (("none.git", "not found"), ("r.git?ref=none", "none"), ("r.git//none", "has no 'none'")):
            with pytest.raises(StartFailed, match=words):
                await life.prepare(artifact(f"git::{url.replace('//', '//me:hidden@')}/{source}"))
    assert "hidden" not in f"{life.said}"
    assert life.tree() == {}


@needs_git
async def test_links_of_a_repository_and_submodules_by_file_are_refused(tmp_path: Path, life: Life) -> None:
    for name in ("link", "module"):
        work = tmp_path / name
        work.mkdir()
        _git(work, "init", "-q", ".")
        if name == "link":
            (work / "x").symlink_to("/etc/shadow")
        else:
            _git(work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "link"), "sub")
        _git(work, "add", ".")
        _git(work, "commit", "-q", "-m", "x")
        _git(tmp_path, "clone", "-q", "--bare", name, f"r-{name}.git")
        _git(tmp_path / f"r-{name}.git", "update-server-info")
    async with served(r=_files(tmp_path)) as url:
        with pytest.raises(StartFailed, match="leads out of what was fetched"):
            await life.prepare(artifact(f"git::{url}/r-link.git"))
        with pytest.raises(StartFailed, match="'file' not allowed"):
            await life.prepare(artifact(f"git::{url}/r-module.git"))
    assert life.tree() == {}


@needs_git
async def test_a_stop_ends_git_and_all_that_it_started(life: Life) -> None:
    is_asked, is_over = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        is_asked.set()
        await is_over.wait()
        return web.Response()

    async with served(r=endless) as url, asyncio.TaskGroup() as group:
        with pytest.raises(StartFailed, match="git took longer than"):
            await life.prepare(artifact(f"git::{url}/r.git"), limits=Limits(git_timeout_s=0.3))
        is_asked.clear()
        task = group.create_task(life.prepare(artifact(f"git::{url}/r.git")))
        await is_asked.wait()
        task.cancel()
        await asyncio.wait([task])
        address = url.removeprefix("http://").encode()
        commands = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdigit()]
        assert not [path for path in commands if path.exists() and address in path.read_bytes()]
        is_over.set()
    assert (life.left, life.tree()) == ([], {})


async def test_without_git_that_is_said(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StartFailed, match="there is no git on this machine"):
        await life.prepare(artifact("git::https://host/r"))


@needs_git
async def test_git_is_started_with_the_artifacts_key_and_nothing_of_the_machines(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh writes down how it was called."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(f'#!/bin/sh\nfor one; do case $one in IdentityFile=*) cat "${{one#IdentityFile=}}" 2>/dev/null;; esac; done > {tmp_path}/key\necho "$HOME $@" > {tmp_path}/argv\nexit 1\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    key = base64.b64encode(b"the key").decode()
    with pytest.raises(StartFailed, match="git: "):
        await life.prepare(artifact("git@host:o/r.git", getter_options={"sshkey": key}))
    argv = (tmp_path / "argv").read_text()
    assert "-F /dev/null" in argv
    assert "git@host" in argv
    assert argv.split()[0].startswith(str(fetching_dir(life.dirs.path(life.alloc))))
    with pytest.raises(StartFailed, match="sshkey is not base64"):
        await life.prepare(artifact("git@host:o/r.git", getter_options={"sshkey": "!"}))
