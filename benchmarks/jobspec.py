"""How long does it take to read a job file?

    python -m benchmarks.jobspec [DIRECTORY] [--rounds 5] [--processes 10]

Reads every .hcl, .nomad and .json file of a directory (default: configs/jobs) in this process, `rounds` times, and
keeps each file's best time: parsing alone (what `drover job run -output` does) and all of it (with defaults and
validation). Beside it the same files with pyhcl, and with python-hcl2 where that is installed, for the ratio. Then
`drover job validate FILE` as a process, over `processes` of the files. Prints one JSON line; files that are
refused count as well, with the time of their refusal.
"""

import argparse
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jobspec

_SUFFIXES = (".hcl", ".nomad", ".json")


def best_ms(read: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        with contextlib.suppress(Exception):  # another parser may refuse, or fail on, what ours reads
            read()
        best = min(best, time.perf_counter() - started)
    return best * 1000


def summary(times: Sequence[float]) -> dict[str, float]:
    return {"median_ms": round(statistics.median(times), 2), "max_ms": round(max(times), 1)}


def other_parsers() -> dict[str, Callable[[str], object]]:
    """name -> parse, for those that are installed."""
    found: dict[str, Callable[[str], object]] = {}
    for name, module in (("pyhcl", "hcl"), ("python-hcl2", "hcl2")):
        with contextlib.suppress(ImportError):
            found[name] = importlib.import_module(module).loads
    return found


def process_ms(path: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).with_name("drover")), "job", "validate", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return (time.perf_counter() - started) * 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("directory", nargs="?", type=Path, default=Path("configs/jobs"))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--processes", type=int, default=10)
    args = arguments.parse_args()
    texts = {path: path.read_bytes() for path in sorted(args.directory.iterdir()) if path.suffix in _SUFFIXES}
    parsing: dict[Path, float] = {}
    whole: dict[Path, float] = {}
    for path, text in texts.items():
        parsing[path] = best_ms(partial(jobspec.parse, text, file=str(path)), args.rounds)
        whole[path] = best_ms(partial(jobspec.read_job, text, file=str(path)), args.rounds)
    result: dict[str, object] = {
        "files": len(texts),
        "parse": summary([*parsing.values()]),
        "all": summary([*whole.values()]),
        "slowest": max(whole, key=whole.__getitem__).name,
    }
    for name, loads in other_parsers().items():
        theirs = {
            path: best_ms(partial(loads, text.decode(errors="replace")), 1) for path, text in texts.items()
        }
        ratios = [parsing[path] / theirs[path] for path in texts if theirs[path]]
        result[name] = {
            **summary([*theirs.values()]),
            "our_time_to_theirs": round(statistics.median(ratios), 3),
        }
    slowest_first = sorted(whole, key=whole.__getitem__, reverse=True)
    chosen = slowest_first[:1] + slowest_first[1 :: max(1, len(slowest_first) // args.processes)]
    result["process"] = summary([process_ms(path) for path in chosen])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
