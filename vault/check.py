"""Is Vault set up as drover needs it, and what is to be done where it is not?

Asks Vault now, step by step: reached and trusted, unsealed, its clock, drover's own token, what that may do. Each step
says how it went; what a policy lacks is written out as a policy.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import assert_never
from urllib.parse import urlsplit

from model.errors import VaultRefused, VaultUnavailable
from model.finding import Finding, Outcome
from model.secret import Secret
from vault.client import Health, State, TokenFacts, VaultClient
from vault.login import AppRole, Given, Login, NoToken, TokenFile, Way

# Two machines that keep time are within milliseconds; certificates and log lines go wrong from about here on.
CLOCK_S_MAX = 30.0
# Of a call's time: an answer that takes more is near to being none.
_SLOW_SHARE = 0.5
# A token that has so little left is about to leave tasks without theirs.
_SHORT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """policy: what drover's token lacks, as a Vault policy; empty: nothing."""

    findings: tuple[Finding, ...]
    policy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that drover's token has to be allowed."""

    path: str
    capability: str
    purpose: str

    @property
    def rule(self) -> str:
        return f'# {self.purpose}\npath "{self.path}" {{\n  capabilities = ["{self.capability}"]\n}}\n'


async def check(login: Login, role: str, *, may_lead: bool = True) -> Report:
    """role: the token role that tasks' tokens are made by; empty: none. may_lead: an agent that may needs a token; of
    others the tasks can have theirs from the leader. Never raises."""
    client = login.client
    findings = list(_transport(client))
    health = await client.health()
    findings.append(_health(health))
    if not health.is_usable:
        return Report(findings=tuple(findings))
    findings += _pace(health, client.endpoint.timeout_s)
    if isinstance(login.way, NoToken) and not may_lead:
        text = "this agent has none of its own: its tasks get theirs from the leader"
        return Report(findings=(*findings, Finding(name="token", outcome=Outcome.OK, text=text)))
    try:
        token = login.token()
        facts = await client.lookup_self(token)
    except (VaultUnavailable, VaultRefused) as error:
        findings.append(Finding(name="token", outcome=Outcome.FAILED, text=str(error), remedy=_how_to(login.way)))
        return Report(findings=tuple(findings))
    findings.append(_token(facts, login.way))
    try:
        more, policy = await _rights(client, token, role)
    except (VaultUnavailable, VaultRefused) as error:
        # The default policy lets a token ask what it may do.
        findings.append(
            Finding(name="rights", outcome=Outcome.WARNING, text=f"not known: {error}", remedy="give drover's token the policy `default`")
        )
        return Report(findings=tuple(findings))
    return Report(findings=(*findings, *more), policy=policy)


def _transport(client: VaultClient) -> tuple[Finding, ...]:
    endpoint = client.endpoint
    url = urlsplit(endpoint.address)
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        remedy = "serve Vault with TLS and give vault.address as https://…"
        return (Finding(name="tls", outcome=Outcome.WARNING, text="tokens and secrets travel in the clear", remedy=remedy),)
    if not endpoint.is_verified:
        remedy = "set vault.ca_file and leave out tls_skip_verify"
        return (Finding(name="tls", outcome=Outcome.WARNING, text="any certificate is believed", remedy=remedy),)
    return ()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _health(health: Health) -> Finding:
    if health.is_usable:
        return Finding(name="vault", outcome=Outcome.OK, text=f"{health.state}, version {health.version}")
    match health.state:
        case State.SEALED | State.UNINITIALISED | State.RECOVERY:
            remedy = "unseal it, or name another Vault in vault.address"
        case State.UNTRUSTED:
            remedy = "set vault.ca_file to the CA of Vault's certificate, and tls_server_name to the name in it"
        case _:
            remedy = "is vault.address right, and does Vault run there? drover goes on without it; tasks that need a secret wait"
    return Finding(name="vault", outcome=Outcome.FAILED, text=health.message or str(health.state), remedy=remedy)


def _pace(health: Health, timeout_s: float) -> list[Finding]:
    found = []
    if health.took_s > timeout_s * _SLOW_SHARE:
        text = f"Vault took {health.took_s:.1f} s to answer, a call may take {timeout_s:g} s"
        found.append(Finding(name="pace", outcome=Outcome.WARNING, text=text, remedy="raise vault.timeout, or find out why Vault is slow"))
    off_s = health.time_s - time.time()
    if health.time_s and abs(off_s) > CLOCK_S_MAX:
        text = f"Vault's clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}"
        found.append(Finding(name="clock", outcome=Outcome.WARNING, text=text, remedy="let both machines keep time (chrony, ntp)"))
    else:
        found.append(Finding(name="clock", outcome=Outcome.OK, text=f"Vault's clock agrees within {CLOCK_S_MAX:.0f} s"))
    return found


def _how_to(way: Way) -> str:
    match way:
        case NoToken():
            return "set token_file, or role_id with secret_id_file, or token in the vault block; see docs/vault.md"
        case Given():
            return "give drover another token (it is read at start), or better a token_file or AppRole, which need no restart"
        case TokenFile(path=path):
            return f"see that {path} holds a valid token; it is read again as soon as it changes"
        case AppRole():
            return "see that role_id and the secret id are of the same role and have not run out; drover tries again by itself"
    assert_never(way)


def _token(facts: TokenFacts, way: Way) -> Finding:
    ttl_s = math.inf if facts.is_endless else facts.ttl_s
    left = "never ends" if facts.is_endless else f"ends in {facts.ttl_s:.0f} s unless renewed"
    policies = ", ".join(facts.policies)
    if "root" in facts.policies:
        remedy = "give drover a token with the policy of configs/policies/vault-agent.hcl"
        return Finding(name="token", outcome=Outcome.WARNING, text="drover's token is a root token", remedy=remedy)
    if not facts.renewable and not facts.is_endless and isinstance(way, Given):
        return Finding(name="token", outcome=Outcome.WARNING, text=f"valid ({policies}), cannot be renewed, {left}", remedy=_how_to(way))
    if facts.max_ttl_s and isinstance(way, Given):
        text = f"valid ({policies}), {left}, and at the latest {facts.max_ttl_s:.0f} s after it was made"
        return Finding(name="token", outcome=Outcome.WARNING, text=text, remedy="make it with a period (`-period`), or use AppRole")
    if ttl_s < _SHORT_S and not facts.period_s and isinstance(way, Given):
        text = f"valid ({policies}), but {left}"
        return Finding(name="token", outcome=Outcome.WARNING, text=text, remedy="make it with a period (`-period`), or use AppRole")
    return Finding(name="token", outcome=Outcome.OK, text=f"valid ({policies}), {left}")


async def _rights(client: VaultClient, token: Secret, role: str) -> tuple[list[Finding], str]:
    create = f"auth/token/create/{role}" if role else "auth/token/create-orphan"
    needs = (
        Need(path=create, capability="update", purpose="tokens for tasks"),
        Need(path="auth/token/revoke-accessor", capability="update", purpose="tokens of tasks that ended are revoked"),
        Need(path="auth/token/renew-self", capability="update", purpose="drover's own token lives on"),
        Need(path="auth/token/lookup-self", capability="read", purpose="how long drover's own token lives"),
    )
    allowed = await client.capabilities(token, [*(need.path for need in needs), "auth/token/create"])
    missing = [need for need in needs if not _may(allowed, need.path, need.capability)]
    found = [_right(need, need not in missing) for need in needs]
    if not role and needs[0] in missing and _may(allowed, "auth/token/create", "update"):
        text = "tokens of tasks are children of drover's own: they end when it ends"
        remedy = "allow auth/token/create-orphan (below), or name a token role in create_from_role"
        found[0] = Finding(name="create", outcome=Outcome.WARNING, text=text, remedy=remedy)
    if role and needs[0] not in missing:
        found[0] = await _role(client, token, role)
    return found, "\n".join(need.rule for need in missing)


def _may(allowed: Mapping[str, tuple[str, ...]], path: str, capability: str) -> bool:
    return bool({capability, "root"} & set(allowed.get(path, ())))


def _right(need: Need, is_given: bool) -> Finding:
    name = need.path.removeprefix("auth/token/").partition("/")[0].removesuffix("-orphan")
    if is_given:
        return Finding(name=name, outcome=Outcome.OK, text=f"may {need.capability} {need.path}")
    text = f"may not {need.capability} {need.path} ({need.purpose})"
    return Finding(name=name, outcome=Outcome.FAILED, text=text, remedy="add the policy below to drover's token")


async def _role(client: VaultClient, token: Secret, role: str) -> Finding:
    """The role itself, as far as drover's token may read it."""
    path = f"auth/token/roles/{role}"
    try:
        found = await client.read(token, path)
    except VaultRefused:
        return Finding(name="create", outcome=Outcome.OK, text=f"may make tokens by the role {role} (its settings cannot be read)")
    if found is None:
        remedy = f"make it: vault write {path} allowed_policies=… orphan=true token_period=72h"
        return Finding(name="create", outcome=Outcome.FAILED, text=f"there is no token role {role}", remedy=remedy)
    for name, text in (
        ("orphan", "its tokens are children of drover's own: they end when it ends"),
        ("renewable", "its tokens cannot be renewed: tasks get new ones all the time"),
    ):
        if not found.data.get(name):
            remedy = f"vault write {path} {name}=true (with its other settings)"
            return Finding(name="create", outcome=Outcome.WARNING, text=f"role {role}: {text}", remedy=remedy)
    return Finding(name="create", outcome=Outcome.OK, text=f"may make tokens by the role {role}")
