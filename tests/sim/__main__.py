"""python -m tests.sim --seed N | --seeds A-B [--nodes N] [--steps N] [--jobs A,B] [--break fencing]

Replays one seed, or runs many. On a failure it prints the seed, the commit, the command to replay it and
the last events; the exit status is then 1 (with --break: when nothing was caught).
"""

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.sim.runs import STEPS, Result, run_seed, run_seeds
from tests.sim.workload import NAMES


def main() -> int:
    args = _arguments()
    first, _, last = (args.seeds or f"{args.seed}").partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began_s = time.monotonic()
    options = {"nodes": args.nodes, "steps": args.steps, "is_fencing": args.broken != "fencing", "names": args.jobs}
    results = [run_seed(seeds[0], **options)] if len(seeds) == 1 else run_seeds(seeds, **options)
    failed: list[Result] = []
    counts: Counter[str] = Counter()
    done = 0
    virtual_s = 0.0
    for result in results:
        done += 1
        counts.update(dict(result.counts))
        virtual_s += result.virtual_s
        if result.failure:
            failed.append(result)
            print(told(result, args), flush=True)
        elif len(seeds) == 1:
            print(f"seed {result.seed}: {result.events} events, {result.virtual_s:.0f} s, digest {result.digest}")
        if result.failure and args.first:
            break
    spent_s = time.monotonic() - began_s
    print(
        f"{done} seeds, {len(failed)} failed {[r.seed for r in failed]}, {spent_s:.1f} s "
        f"({spent_s / max(done, 1):.2f} s a seed), {virtual_s / 3600:.1f} h simulated, {dict(sorted(counts.items()))}"
    )
    if args.broken:
        return 0 if failed else 1
    return 1 if failed else 0


def told(result: Result, args: argparse.Namespace) -> str:
    replay = f"python -m tests.sim --seed {result.seed} --steps {args.steps}"
    if args.nodes:
        replay += f" --nodes {args.nodes}"
    if args.jobs != NAMES:
        replay += f" --jobs {','.join(args.jobs)}"
    if args.broken:
        replay += f" --break {args.broken}"
    return f"\nseed {result.seed} failed at commit {_commit()}; replay: {replay}\n{result.failure}\n"


def _commit() -> str:
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int)
    which.add_argument("--seeds", help="a range: 1-200")
    parser.add_argument("--nodes", type=int, help="machines (default: by the seed)")
    parser.add_argument("--steps", type=int, default=STEPS, help="incidents before the repair")
    parser.add_argument("--jobs", type=lambda text: tuple(text.split(",")), default=NAMES, help="ask for these alone: items")
    parser.add_argument("--break", dest="broken", choices=("fencing",), help="run a build that lacks this")
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
