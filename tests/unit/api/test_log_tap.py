"""Who listens in on the log misses lines rather than holding anybody up, and is told so."""

import logging
import threading

import pytest

from api.monitor import LINES_MAX, LogTap
from configs.log_lines import listening


async def test_lines_are_taken_in_order_and_as_they_come() -> None:
    tap, log = LogTap(logging.INFO, is_json=False), logging.getLogger("drover.test")
    with listening(tap):
        log.info("one")
        log.debug("not asked for")
        log.warning("two %s", "words")
        assert [line.partition(" ")[2] for line in (await tap.take(1.0)).decode().splitlines()] == [
            "[INFO]  drover.test: one", "[WARN]  drover.test: two words"
        ]  # fmt: skip
        assert await tap.take(0.01) == b""
        thread = threading.Thread(target=log.error, args=("from a thread",))
        thread.start()
        assert (await tap.take(5.0)).endswith(b"[ERROR] drover.test: from a thread\n")
        thread.join()


async def test_what_is_not_taken_in_time_is_counted() -> None:
    tap, log = LogTap(logging.INFO, is_json=False), logging.getLogger("drover.test")
    with listening(tap):
        for number in range(LINES_MAX + 7):
            log.info("%d", number)
        lines = (await tap.take(1.0)).decode().splitlines()
        assert len(lines) == LINES_MAX + 1
        assert lines[-1].endswith("[WARN]  monitor: 7 lines were missed: they came faster than they were read")
        log.info("next")
        assert (await tap.take(1.0)).decode().endswith(": next\n")


async def test_the_root_loggers_level_is_the_lowest_of_those_who_listen() -> None:
    root = logging.getLogger()
    before = root.level
    try:
        with listening(LogTap(logging.ERROR, is_json=False)):
            level = root.level
            with listening(LogTap(logging.DEBUG, is_json=True)):
                assert root.level <= logging.DEBUG
            assert root.level == level
    finally:
        root.setLevel(before)


@pytest.mark.parametrize("is_json", [False, True])
async def test_an_exception_is_part_of_its_line(is_json: bool) -> None:
    tap = LogTap(logging.INFO, is_json=is_json)
    with listening(tap):
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("drover.test").exception("failed")
        assert b"ValueError: why" in await tap.take(1.0)
