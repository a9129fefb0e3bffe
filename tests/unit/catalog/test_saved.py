"""A snapshot's file: whole and unchanged, or refused in one line."""

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.saved import Saved, SnapshotFault, packed, read

LISTING = b'[{"LockIndex":0,"Key":"drover/state/jobs/default/web","Flags":0,"Value":"e30=","CreateIndex":7,"ModifyIndex":9}]'


async def file(listing: bytes = LISTING) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(listing), 10):
            yield listing[start : start + 10]

    return b"".join([piece async for piece in packed("drover", 42, pieces(), datetime(2026, 1, 2, tzinfo=UTC))])


async def saved(tmp_path: Path) -> Saved:
    path = tmp_path / "s"
    path.write_bytes(await file())
    return read(path)


async def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    found = await saved(tmp_path)
    assert (found.head.root, found.head.index, found.head.created_at) == ("drover", 42, "2026-01-02T00:00:00+00:00")
    (entry,) = found.entries
    assert (entry.key, entry.value, entry.create_index, entry.modify_index) == ("drover/state/jobs/default/web", b"{}", 7, 9)


async def test_it_is_read_as_the_store_reads_consul(tmp_path: Path) -> None:
    found = await saved(tmp_path)
    assert await found.get("drover/state/jobs/default/web") == found.entries[0]
    assert await found.get("drover/state/leader") is None
    listing = await found.list("drover/state/jobs/")
    assert (listing.entries, listing.index) == (found.entries, 42)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
async def test_a_file_that_was_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    whole = await file()
    path = tmp_path / "s"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SnapshotFault, match="cut off or damaged"):
        read(path)


async def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(gzip.compress(gzip.decompress(await file()).replace(b"e30=", b"e31=")))
    with pytest.raises(SnapshotFault, match="was changed"):
        read(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no snapshot"),
        (b"hello", "no snapshot"),
        (gzip.compress(b""), "no snapshot"),
        (gzip.compress(b"{}\n[]\n{}"), "cut off or damaged"),
        (gzip.compress(b'{"Format": "other"}\n[]\n{}'), "no snapshot"),
        (gzip.compress(b'{"Version": 9}\n[]\n{}'), "format 9"),
    ],
    ids=["empty", "text", "empty gzip", "no members", "another format", "another version"],
)
def test_another_file_is_refused_in_one_line(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(data)
    with pytest.raises(SnapshotFault, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotFault, match="nowhere: No such file"):
        read(tmp_path / "nowhere")
