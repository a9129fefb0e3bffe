"""How long does it take to render a template?

    python -m benchmarks.template [--services 1000] [--rounds 5]

An upstream list as load balancers have it: every instance of a service with its node, address, port, tags and a value of
its meta. Parsing (once) and rendering (each time something changes), the best of `rounds`, and the same text in jinja2 where
that is installed, for the ratio. Prints one JSON line.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable

from template import Instance, Read, parse

_TEXT = """upstream web {
{{- range $i, $s := service "web" }}
  {{- if .Tags | contains "live" }}
  server {{ .Address }}:{{ .Port }} weight={{ .ServiceMeta.weight }}; # {{ $i }} {{ .Node | toUpper }} {{ .ID | printf "%-20s" }}
  {{- end }}
{{- end }}
}
"""
_JINJA = """upstream web {
{%- for s in services %}
  {%- if "live" in s.tags %}
  server {{ s.address }}:{{ s.port }} weight={{ s.service_meta.weight }}; # {{ loop.index0 }} {{ s.node | upper }} {{ "%-20s" | format(s.id) }}
  {%- endif %}
{%- endfor %}
}
"""


class _Catalog:
    """Lookups that know one service."""

    def __init__(self, count: int) -> None:
        self.instances = [
            Instance(
                node=f"node-{n}",
                node_address=f"10.0.{n // 250}.{n % 250}",
                address=f"10.0.{n // 250}.{n % 250}",
                id=f"web-{n}",
                name="web",
                port=20000 + n,
                tags=("live", f"v{n % 3}"),
                service_meta={"weight": str(n % 10)},
            )
            for n in range(count)
        ]

    def service(self, read: Read) -> list[Instance]:
        return self.instances


def best_ms(what: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - started)
    return round(best * 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    catalog = _Catalog(args.services)
    template = parse(_TEXT, name="upstreams")
    said = template.render(lookups=catalog)  # type: ignore[arg-type]  # nothing else is asked for
    found: dict[str, object] = {
        "services": args.services,
        "characters": len(said),
        "parse_ms": best_ms(lambda: parse(_TEXT, name="upstreams"), args.rounds),
        "reads_ms": best_ms(template.reads, args.rounds),
        "render_ms": best_ms(lambda: template.render(lookups=catalog), args.rounds),  # type: ignore[arg-type]
    }
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError:
        found["jinja2_render_ms"] = None
    else:
        other = jinja2.Template(_JINJA, keep_trailing_newline=True)
        assert other.render(services=catalog.instances) == said
        found["jinja2_render_ms"] = best_ms(lambda: other.render(services=catalog.instances), args.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
