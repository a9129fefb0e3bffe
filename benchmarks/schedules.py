"""How long does working out what is due hold the leader's loop?

    python -m benchmarks.schedules

No Consul: only what is reckoned between two awaits. A lease is lost after seconds, a check of it passes each second.
"""

import time
from collections.abc import Callable

from jobspec import cron
from leader.decide.launching import due, following, latest
from leader.decide.watch import judge
from model.job import PeriodicConfig

_NOW_S = 1_800_000_000
_DAY_S = 86400


def main() -> None:
    for zone in ("UTC", "America/New_York"):
        daily = PeriodicConfig(specs=tuple(f"{n % 60} {n // 60} * * *" for n in range(100)), time_zone=zone)
        for days in (8, 80):
            _report(
                f"100 daily crons, {days} days missed, {zone}",
                lambda daily=daily, days=days: due(daily, since_s=_NOW_S - days * _DAY_S, now_s=_NOW_S, is_running=False),
            )
        _report(f"100 daily crons, the last of 8 days, {zone}", lambda daily=daily: latest(daily, _NOW_S - 8 * _DAY_S, _NOW_S))
    jobs = [PeriodicConfig(spec=f"{n % 60} {n // 60} * * *") for n in range(1000)]

    def look() -> None:
        for config in jobs:
            following(config, _NOW_S)

    def tell() -> None:
        for config in jobs:
            judge(config, (), since_s=_NOW_S, now_s=_NOW_S)

    _report("1,000 jobs, the first look (one await for each)", look)
    _report("1,000 jobs, when each is next, known already", look, is_cold=False)
    _report("1,000 jobs, their checks, known already", tell, is_cold=False)


def _report(what: str, work: Callable[[], object], *, is_cold: bool = True) -> None:
    """The best and the worst of five."""
    took_ms = []
    for _ in range(5):
        if is_cold:
            cron.forget()
        start_s = time.perf_counter()
        work()
        took_ms.append((time.perf_counter() - start_s) * 1000)
    print(f"{what:55} {min(took_ms):8.1f} to {max(took_ms):6.1f} ms")


if __name__ == "__main__":
    main()
