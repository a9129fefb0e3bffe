"""Can a name be found through DNS, and what would be one that can?

Consul answers for a service as <name>.service.consul: a label of RFC 1123, letters, digits and dashes, 63 at most.
"""

import re

LABEL_MAX = 63
_LABEL = re.compile(r"(?i:[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9])")
_OTHERS = re.compile(r"[^a-z0-9-]+", re.IGNORECASE)


def is_dns_label(name: str) -> bool:
    return _LABEL.fullmatch(name) is not None


def dns_label(name: str) -> str:
    """The nearest name that is one; empty when nothing of it can stay."""
    return re.sub(r"--+", "-", _OTHERS.sub("-", name)).strip("-")[:LABEL_MAX].rstrip("-")


def label_fault(name: str) -> str:
    """What is wrong with a service's name, and which would do; empty when nothing is."""
    if is_dns_label(name):
        return ""
    said = f'"{name[:80]}" is no DNS label (letters, digits and dashes, at most {LABEL_MAX}, no dash at either end)'
    near = dns_label(name)
    return f'{said}; "{near}" would be one' if near else said
