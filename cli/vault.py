"""`drover vault status` and `drover vault check`.

check exits with 0 when all is well, 1 with warnings, 2 when something has to be done or nobody could be asked.
"""

import argparse
from typing import Any

from cli.client import Api, is_data, print_data, table
from cli.failure import CommandFailed, fail

_CODES = {"ok": 0, "warning": 1}
_MARKS = {"ok": "ok", "warning": "WARN", "failed": "FAIL"}


def status(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/agent/vault")
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    if not found["Enabled"]:
        print("Vault is not enabled in this agent")
        return 0
    token = found["Token"]
    rows = [
        ("Address", found["Address"]),
        ("Namespace", found["Namespace"] or "-"),
        ("State", found["State"]),
        ("Version", found["Version"] or "-"),
        ("Cluster", found["ClusterName"] or "-"),
        ("Last contact", _age(found["LastContactSeconds"])),
    ]
    has_own = token["Way"] != "none"
    if has_own:
        rows += [
            ("Token from", token["Way"]),
            ("Token ends", _ends(token)),
            ("Renewable", str(token["Renewable"]).lower()),
            ("Policies", ", ".join(token["Policies"]) or "-"),
        ]
    else:
        rows.append(("Own token", "none is configured: the leader makes those of this node's tasks"))
    print(table([(name, "=", value) for name, value in rows]))
    for text in dict.fromkeys(filter(None, (found["Message"], token["Error"] if has_own else ""))):
        print(text)
    return 0


def check(args: argparse.Namespace) -> int:
    try:
        found = Api(args).put("/v1/agent/vault/check")
        found["Findings"].append(path := _path(args))
    except CommandFailed as error:
        fail(error)
        return 2
    if _CODES.get(path["Status"], 2) > _CODES.get(found["Status"], 2):
        found["Status"] = path["Status"]
    if is_data(args):
        print_data(args, found)
    else:
        for one in found["Findings"]:
            print(f"{_MARKS[one['Status']]:4}  {one['Name']}: {one['Text']}")
            if one["Remedy"]:
                print(f"      -> {one['Remedy']}")
        if found["Policy"]:
            print(f"\nPolicy that drover's token lacks:\n\n{found['Policy']}", end="")
    return _CODES.get(found["Status"], 2)


def _path(args: argparse.Namespace) -> dict[str, str]:
    """Whether Vault is reached through jobs of drover's own, as the leader sees it."""
    finding = {"Name": "path", "Status": "ok", "Text": "Vault is reached through no job of drover's", "Remedy": ""}
    try:
        found = Api(args).get("/v1/operator/vault/path")
    except CommandFailed as error:
        return finding | {"Status": "warning", "Text": f"the leader was not asked: {error}"}
    if found["Warnings"]:
        remedy = "give agents an address of Vault that leads past drover's jobs; until then none of these may need Vault"
        finding |= {"Status": "failed", "Text": "; ".join(found["Warnings"]), "Remedy": remedy}
    return finding


def _age(age_s: float | None) -> str:
    return "never" if age_s is None else f"{age_s:.0f} s ago"


def _ends(token: dict[str, Any]) -> str:
    if not token["Valid"]:
        return "there is none"
    return "never" if token["TTLSeconds"] is None else f"in {token['TTLSeconds']:.0f} s unless renewed"
