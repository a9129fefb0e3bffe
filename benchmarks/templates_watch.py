"""What do a thousand templates on one node cost, and how soon do they say what Consul says?

    python -m benchmarks.templates_watch [--tasks 20] [--templates 50] [--keys 50]

One real Consul and one real agent, which runs so many tasks with so many templates each; every template reads one of the
keys. Prints one JSON line: the lookups that the agent watches, its connections to Consul (20 at most are for other work), its
share of one core while nothing changes, ms from a change of one key, and of all keys at once, until the last file says so,
and seconds from the submission until all tasks run. Ends with 1 when a number is beyond what is promised.
"""

import argparse
import base64
import json
import sys
import time
from pathlib import Path

import psutil

from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, wait

IDLE_SHARE_MAX = 0.02
_IDLE_S = 20.0
_TXN_OPS_MAX = 64


def _put(consul: ConsulServer, keys: range, value: str) -> None:
    ops = [{"KV": {"Verb": "set", "Key": f"bench/{key}", "Value": base64.b64encode(value.encode()).decode()}} for key in keys]
    for start in range(0, len(ops), _TXN_OPS_MAX):
        status, answer = consul.call("PUT", "/v1/txn", ops[start : start + _TXN_OPS_MAX])
        assert status == 200, answer


def _files(one: Drover, templates: int) -> list[Path]:
    return [one.task_dir(alloc["ID"]) / f"local/{n}" for alloc in one.running("many") for n in range(templates)]


def _until_said_ms(files: list[Path], value: str) -> float:
    began_s = time.perf_counter()
    left = files
    while left:
        left = [path for path in left if path.read_text() != value]
        if time.perf_counter() - began_s > 60:
            raise SystemExit(f"{len(left)} of {len(files)} files do not say {value!r} after 60 s")
    return (time.perf_counter() - began_s) * 1000


def _watched(one: Drover) -> int:
    text = one.get("/v1/metrics?format=prometheus")
    line = next(line for line in str(text).splitlines() if line.startswith('drover_template_queries{') and "consul" in line)
    return int(float(line.rpartition(" ")[2]))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--templates", type=int, default=50)
    parser.add_argument("--keys", type=int, default=50)
    args = parser.parse_args()
    keys = range(args.keys)
    with ConsulServer() as consul, Drover(consul) as one:
        one.wait_ready()
        _put(consul, keys, "first")
        templates = [
            {"EmbeddedTmpl": f'{{{{ key "bench/{n % args.keys}" }}}}', "DestPath": f"local/{n}", "ChangeMode": "noop", "Wait": {"Min": 0, "Max": 0}}
            for n in range(args.templates)
        ]
        began_s = time.perf_counter()
        one.submit(job("many", "/bin/sleep", ["100000"], count=args.tasks, Templates=templates))
        one.wait_running("many", args.tasks, 120)
        started_s = time.perf_counter() - began_s
        files = _files(one, args.templates)
        _until_said_ms(files, "first")
        process = psutil.Process(one.pid)
        wait("quiet", lambda: process.cpu_percent(1.0) < 20.0)
        share = process.cpu_percent(_IDLE_S) / 100
        port = int(consul.http_addr.rpartition(":")[2])
        connections = sum(
            one.raddr != () and one.raddr.port == port and one.status == "ESTABLISHED" for one in process.net_connections("tcp")
        )
        _put(consul, range(1), "second")
        one_ms = _until_said_ms([path for path in files if int(path.name) % args.keys == 0], "second")
        _put(consul, keys, "third")
        all_ms = _until_said_ms(files, "third")
        watched = _watched(one)
    print(
        json.dumps(
            {
                "templates": args.tasks * args.templates,
                "keys": args.keys,
                "watched": watched,
                "connections": connections,
                "idle_share": round(share, 4),
                "one_key_ms": round(one_ms),
                "all_keys_ms": round(all_ms),
                "started_s": round(started_s, 1),
            }
        )
    )
    return 1 if watched > args.keys or connections > args.keys + 20 or share > IDLE_SHARE_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
