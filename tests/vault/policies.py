"""What do a token's policies let it do, in the test double? The rules that Vault documents for ACL policies."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

DEFAULT = """
path "auth/token/lookup-self"    { capabilities = ["read"] }
path "auth/token/renew-self"     { capabilities = ["update"] }
path "auth/token/revoke-self"    { capabilities = ["update"] }
path "sys/capabilities-self"     { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/renew"                 { capabilities = ["update"] }
path "sys/leases/renew"          { capabilities = ["update"] }
path "sys/leases/lookup"         { capabilities = ["update"] }
path "cubbyhole/*"               { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/wrap"         { capabilities = ["update"] }
path "sys/wrapping/lookup"       { capabilities = ["update"] }
path "sys/wrapping/unwrap"       { capabilities = ["update"] }
path "sys/tools/hash"            { capabilities = ["update"] }
"""

_RULE = re.compile(r'path\s+"([^"]+)"\s*\{(.*?)\}', re.DOTALL)
_CAPABILITIES = re.compile(r"capabilities\s*=\s*\[(.*?)\]", re.DOTALL)


def parse(text: str) -> dict[str, frozenset[str]]:
    """Paths with what is allowed there, from a policy in HCL or JSON."""
    if text.lstrip().startswith("{"):
        found: Mapping[str, Any] = json.loads(text)["path"]
        return {path.strip("/"): frozenset(rule["capabilities"]) for path, rule in found.items()}
    text = re.sub(r"(?m)^\s*#.*$", "", text)
    rules: dict[str, frozenset[str]] = {}
    for path, body in _RULE.findall(text):
        listed = _CAPABILITIES.search(body)
        rules[path.lstrip("/")] = frozenset(re.findall(r'"([^"]+)"', listed.group(1))) if listed else frozenset()
    return rules


def capabilities(policies: Iterable[Mapping[str, frozenset[str]]], path: str) -> frozenset[str]:
    """What all of them together allow at a path: the rule that names it most closely counts; `deny` outdoes the rest."""
    together: dict[str, frozenset[str]] = {}
    for policy in policies:
        for pattern, allowed in policy.items():
            together[pattern] = together.get(pattern, frozenset()) | allowed
    fitting = [pattern for pattern in together if _fits(pattern, path)]
    if not fitting:
        return frozenset({"deny"})
    found = together[max(fitting, key=_closeness)]
    return frozenset({"deny"}) if "deny" in found or not found else found


def touches(policies: Iterable[Mapping[str, frozenset[str]]], mount: str) -> bool:
    """Whether anything is allowed within a mount."""
    return any(
        (pattern.rstrip("*").startswith(mount) or mount.startswith(pattern.rstrip("*"))) and "deny" not in allowed
        for policy in policies
        for pattern, allowed in policy.items()
        if pattern.endswith("*") or pattern.startswith(mount)
    )


def _fits(pattern: str, path: str) -> bool:
    if pattern == path:
        return True
    expression = "/".join("[^/]+" if part == "+" else re.escape(part) for part in pattern.rstrip("*").split("/"))
    return re.fullmatch(expression + (".*" if pattern.endswith("*") else ""), path, re.DOTALL) is not None


def _closeness(pattern: str) -> tuple[int, bool, int, int, str]:
    """As Vault documents it: a later first wildcard, no glob at the end, fewer +, longer, lexically greater."""
    wild = [at for at in (pattern.find("+"), pattern.find("*")) if at >= 0]
    first = min(wild) if wild else 1 << 30
    return (first, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern)
