"""The API's /v1/agent/vault: how does this agent see Vault, and is that set up as drover needs it?"""

import math
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import answer
from leader import vault_path
from leader.leading import Leading
from model.finding import Finding, Outcome, worst
from vault.check import Report, check
from vault.login import AppRole, Given, Login, NoToken, TokenFile

_WAYS: dict[type, str] = {Given: "token", TokenFile: "token file", AppRole: "approle", NoToken: "none"}
_NOT_ENABLED = Report(
    findings=(
        Finding(
            name="vault",
            outcome=Outcome.FAILED,
            text="Vault is not enabled in this agent",
            remedy="set vault { enabled = true, address = … } in its configuration; see docs/vault.md",
        ),
    )
)


async def status(request: web.Request) -> web.Response:
    """From what the agent knows: nothing is asked of Vault."""
    vault = request.app[CONTEXT].vault
    return answer(request, {"Enabled": False} if vault is None else _shown(vault))


async def checked(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    report = _NOT_ENABLED if context.vault is None else await check(context.vault, context.vault_role, may_lead=context.is_candidate())
    findings = [{"Name": f.name, "Status": f.outcome, "Text": f.text, "Remedy": f.remedy} for f in report.findings]
    return answer(request, {"Status": worst(report.findings), "Findings": findings, "Policy": report.policy})


def _shown(login: Login) -> dict[str, Any]:
    """TTLSeconds, LastContactSeconds: null for a token that never ends, and for a Vault that never answered."""
    health, held, endpoint = login.health, login.held, login.client.endpoint
    ttl_s, age_s = login.ttl_s, login.contact_age_s
    return {
        "Enabled": True,
        "Address": endpoint.address,
        "Namespace": endpoint.namespace,
        "State": health.state if health is not None else "not asked yet",
        "Usable": health is not None and health.is_usable,
        "Message": health.message if health is not None else "",
        "Version": login.version,
        "ClusterName": health.cluster_name if health is not None else "",
        "LastContactSeconds": None if age_s is None else round(age_s, 3),
        "Token": {
            "Way": _WAYS[type(login.way)],
            "Valid": ttl_s > 0,
            "TTLSeconds": None if ttl_s == math.inf else round(ttl_s, 3),
            "Renewable": held is not None and held.renewable,
            "Accessor": held.accessor if held is not None else "",
            "Policies": list(held.policies) if held is not None else [],
            "Error": login.error,
        },
    }


async def path(request: web.Request, leading: Leading) -> web.Response:
    """Which jobs the fleet's Vaults are reached through, and which circles they close."""
    found = await vault_path.find(leading.view, leading.client)
    shown = {
        "Vaults": [
            {"Address": address, "Jobs": [{"Namespace": one.job[0], "JobID": one.job[1], "Way": list(one.way)} for one in servers]}
            for address, servers in found.servers.items()
        ],
        "Cycles": [list(cycle.chain) for cycle in found.cycles],
        "Warnings": vault_path.warnings(found),
    }
    return answer(request, shown, index=leading.view.api_index(leading.view.index))
