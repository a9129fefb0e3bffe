"""Hundreds of seeds of faults; the checkers themselves against a broken build; the same seed, the same run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.runs import run_seed, run_seeds

# Of 1-100 every second one is caught (measured); were it one in ten, 40 would still miss once in a hundred.
BROKEN_SEEDS = range(1, 41)
REPO = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(1, 201, 50))
def test_nothing_forbidden_happens_and_all_converges(first: int) -> None:
    # Under xdist the blocks are spread already; alone, over the cores.
    processes = 1 if "PYTEST_XDIST_WORKER" in os.environ else None
    for result in run_seeds(range(first, first + 50), processes=processes):
        assert not result.failure, f"replay: python -m tests.sim --seed {result.seed}\n{result.failure}"


def test_each_index_is_completed_once_whatever_breaks() -> None:
    """Of 1-500 none failed; with a place that is not held by what was told to stop, every second one does."""
    processes = 1 if "PYTEST_XDIST_WORKER" in os.environ else None
    for result in run_seeds(range(1, 21), names=("items",), processes=processes):
        assert not result.failure, f"replay: python -m tests.sim --jobs items --seed {result.seed}\n{result.failure}"


def test_without_the_fence_the_checkers_catch_a_second_writer() -> None:
    for seed in BROKEN_SEEDS:
        failure = run_seed(seed, is_fencing=False).failure
        if "leader keys" in failure or "which is another's" in failure:
            return
    pytest.fail(f"{len(BROKEN_SEEDS)} seeds without fence, and nobody noticed")


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = run_seed(7), run_seed(7)
    assert (first.digest, first.events) == (second.digest, second.events)
    assert first.events > 50
    assert run_seed(8).digest != first.digest


def test_the_order_of_hashes_changes_nothing() -> None:
    assert len({_digest(hash_seed) for hash_seed in ("0", "1", "4711")}) == 1


def _digest(hash_seed: str) -> str:
    code = "from tests.sim.runs import run_seed; print([run_seed(s).digest for s in (11, 12, 13)])"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout
