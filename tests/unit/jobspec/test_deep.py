"""How deep may a job file nest?

Nomad was seen to take 3000 nested interpolations. What it takes is read here, too, whatever Python's own limit on
calls; what is deeper than anything meant is refused in words, and soon.
"""

import sys
import threading
import time
from itertools import pairwise

import pytest

import jobspec
from jobspec import deep
from model.errors import JobspecError
from tests.unit.jobspec.builders import config_value, job_text

# Opening, middle, closing; the value of any number of levels, and what is said of too many.
NESTED = {
    "interpolations": ('"${', '"x"', '}"', "x"),
    "templates": ('"${', '"x"', '}${""}"', "x"),
    "calls": ("upper(", '"x"', ")", "X"),
    "parentheses": ("(0 + ", "1", ")", 1),
    "conditionals": ("true ? ", "1", " : 2", 1),
    "other branches": ("false ? 1 : ", "2", "", 2),
    "negations": ("!!", "true", "", True),
    "loops": ("[for x in ", "[1]", ": x]", [1]),
    "directives": ("%{ if true }", "x", "%{ endif }", "x"),
    "lists": ("flatten([", "1", "])", [1]),
}


def expression(name: str, levels: int) -> str:
    opening, middle, closing, _ = NESTED[name]
    text = opening * levels + middle + closing * levels
    return f'"{text}"' if name == "directives" else text


@pytest.mark.parametrize("levels", [50, 500, 2400])
@pytest.mark.parametrize("name", NESTED)
def test_what_nomad_takes_is_read(name: str, levels: int) -> None:
    assert config_value(expression(name, levels)) == NESTED[name][3]


@pytest.mark.parametrize("levels", [10_000, 50_000])
@pytest.mark.parametrize("name", NESTED)
def test_what_nobody_means_is_refused_soon(name: str, levels: int) -> None:
    started = time.perf_counter()
    with pytest.raises(JobspecError, match=r"too deeply|too many signs"):
        config_value(expression(name, levels))
    assert time.perf_counter() - started < 5


def test_deep_blocks_are_refused() -> None:
    with pytest.raises(JobspecError, match="nested too deeply"):
        jobspec.read_job(job_text(config="a {\n" * 3000 + "}\n" * 3000), file="x.hcl")


def test_the_limit_on_calls_is_as_before() -> None:
    before = sys.getrecursionlimit(), threading.stack_size()
    config_value(expression("calls", 2000))
    assert (sys.getrecursionlimit(), threading.stack_size()) == before


def test_what_fails_deep_down_fails_here() -> None:
    def dig(depth: int) -> int:
        if not depth:
            raise KeyError("found")
        return 1 + dig(depth - 1)

    with pytest.raises(KeyError, match="found"):
        deep.run(lambda: dig(20_000))
    with pytest.raises(RecursionError):
        deep.run(lambda: dig(1_000_000))


def test_several_at_a_time_do_not_disturb_each_other() -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(config_value(expression("calls", 2000))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["X"] * 4


def test_loops_that_double_are_refused_before_they_fill_the_memory() -> None:
    names = "abcdefghijklmnopqrstuvwxyz"
    text = "".join(f"[for {name} in [[{before}, {before}]]: " for before, name in pairwise(names))
    with pytest.raises(JobspecError, match="computes too much"):
        config_value(f"[for a in [1]: {text} equal" + "]" * 26)


def test_locals_that_double_are_refused_before_they_fill_the_memory() -> None:
    names = "".join(f"l{number} = [local.l{number - 1}, local.l{number - 1}]\n" for number in range(1, 40))
    with pytest.raises(JobspecError, match="computes too much"):
        jobspec.parse(job_text(top=f"locals {{\nl0 = [1]\n{names}}}", config="v = local.l39"), file="x.hcl")
