"""How is a file read that nests deeper than Python's calls may?

Reading, evaluating and mapping are recursive, and Python allows a thousand calls in each other. No job file of
people comes near; Nomad takes thousands of levels all the same. So the work is first done as it is, and only
when Python says that it went too deep, again in a thread with a larger stack. The limit on levels is the
parser's own (LEVELS_MAX), which has this stack to spare for each.
"""

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# A level takes up to ten calls to read; source.LEVELS_MAX of them, and as much again to spare.
_CALLS_MAX = 100_000
# Of addresses, not of memory: only what is used counts. C functions in between (json, sorting) take about 500 bytes.
_STACK_BYTES = 512 << 20

# Python's limit on calls holds for all threads, and one that is below it when it is lowered ends the process: so
# not even a first try may run beside a deep one.
_one_at_a_time = threading.RLock()


def run(work: Callable[[], T]) -> T:
    """What `work` returns or raises; it may run twice. Raises RecursionError when it is too deep even so."""
    with _one_at_a_time:
        try:
            return work()
        except RecursionError:
            pass  # go on outside of the handler: the exception holds every frame of the first try
        return _run_deep(work)


def nests_deeper(document: object, levels: int) -> bool:
    """Whether lists and maps stand in each other more than so many times."""
    level: list[Any] = [document]
    for _ in range(levels + 1):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _run_deep(work: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error.with_traceback(None))

    calls_before = sys.getrecursionlimit()
    stack_before = threading.stack_size(_STACK_BYTES)
    try:
        thread = threading.Thread(target=call, name="deep-jobspec", daemon=True)
        sys.setrecursionlimit(max(calls_before, _CALLS_MAX))
        thread.start()
        threading.stack_size(stack_before)
        thread.join()
    except RuntimeError:  # no thread can be had
        raise RecursionError("no room for a deeper stack") from None
    finally:
        threading.stack_size(stack_before)
        sys.setrecursionlimit(calls_before)
    if failures:
        raise failures[0]
    return results[0]
