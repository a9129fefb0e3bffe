"""The local Consul agent and what drover's token may do there."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.data_dir import DataDir
from catalog.rights import Authority, Mode, Question, UnknownToken
from catalog.transport import HttpTransport
from cli import local_consul
from configs import AgentConfig
from configs.tls import contexts
from model.errors import ConfigError, StoreRefused, StoreUnavailable
from model.finding import Finding, failed, ok, warning

VERSION_MIN = (1, 8)
_CALL_S_MAX = 5.0
# Stands in a rule for the id of a node that has none yet.
NO_NODE = "NODE_ID"


@dataclass(frozen=True, slots=True)
class Need:
    """One right, and what drover does with it."""

    question: Question
    purpose: str
    is_prefix: bool = False

    @property
    def rule(self) -> str:
        resource, segment, access = self.question
        policy = "write" if access.startswith("write") else access
        if resource == "operator":
            return f'operator = "{policy}"'
        return f'{resource}{"_prefix" if self.is_prefix else ""} "{segment}" {{ policy = "{policy}" }}'


async def look(config: AgentConfig) -> tuple[list[Finding], str]:
    """The findings, and the rules that the token lacks."""
    try:
        endpoint = local_consul.endpoint(config, contexts(config.tls, config.consul))
    except ConfigError as error:
        return [failed("consul", str(error), "mend the tls and consul blocks")], ""
    transport = HttpTransport(endpoint)
    try:
        return await _with(config, transport, endpoint.url)
    except (StoreUnavailable, StoreRefused, ValueError) as error:
        return [failed("consul", f"{error}", f"look at the Consul agent at {endpoint.url}")], ""
    finally:
        await transport.close()


async def _with(config: AgentConfig, transport: HttpTransport, url: str) -> tuple[list[Finding], str]:
    try:
        response = await transport.request("GET", "/v1/agent/self", timeout_s=_CALL_S_MAX)
    except StoreUnavailable as error:
        text = f"no Consul agent answers at {url}: {error}"
        return [failed("consul", text, "start Consul's agent on this machine, or set consul { address }")], ""
    if response.status == 403:
        known = {}
        found = [failed("consul", f"the token may not read the agent at {url}", "give drover a token with the rules below")]
    elif response.status != 200:
        return [failed("consul", f"what answers at {url} is no Consul agent (status {response.status})", "mend consul { address }")], ""
    else:
        known = json.loads(response.body)
        found = list(_agent(known, url))
    if not await _is_led(transport):
        remedy = "most of Consul's servers have to run and reach each other: consul operator raft list-peers"
        return [*found, failed("consul leader", "Consul has no leader: drover can place nothing; what runs, runs on", remedy)], ""
    found.append(ok("consul leader", "Consul has a leader"))
    rights, policy = await _rights(config, transport, str(known.get("Config", {}).get("NodeName", "")))
    found += rights
    if known:
        found += await _entropy(transport, str(known["Config"]["NodeName"]))
    return found, policy


async def _is_led(transport: HttpTransport) -> bool:
    try:
        response = await transport.request("GET", "/v1/status/leader", timeout_s=_CALL_S_MAX)
    except StoreUnavailable:
        return False
    return response.status == 200 and bool(response.text.strip('"'))


def _agent(known: dict[str, Any], url: str) -> Iterator[Finding]:
    settings = known.get("Config", {})
    version = str(settings.get("Version", ""))
    numbers = tuple(int(part) for part in version.split("+")[0].split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < VERSION_MIN:
        yield failed("consul", f"version {version} at {url}", "drover needs Consul 1.8 or later")
    else:
        yield ok("consul", f"{settings.get('NodeName')} in {settings.get('Datacenter')} at {url}, version {version}")
    debug = known.get("DebugConfig", {})
    if not settings.get("Server") and debug.get("LeaveOnTerm"):
        text = "the agent leaves the cluster when it is restarted: its services are gone from DNS until it is back"
        yield warning("consul leave_on_terminate", text, 'set "leave_on_terminate": false in Consul\'s configuration')
    else:
        yield ok("consul leave_on_terminate", "a restart of Consul's agent keeps services in DNS")


def needs(config: AgentConfig, node_id: str, consul_node: str) -> list[Need]:
    """As configs/policies has them: agent.hcl, and leader.hcl where it may lead."""
    state = f"{config.consul.kv_path}/state"
    found: list[Need] = []
    if config.client.enabled:
        found += [
            Need(Question("key", f"{state}/observed/{node_id}/", "write"), "to report what runs", is_prefix=True),
            Need(Question("key", f"{state}/nodes/{node_id}", "write"), "to register the node"),
            Need(Question("key", f"{state}/inbox/{node_id}", "write"), "to tell the leader of changes"),
            Need(Question("key", f"{state}/desired/{node_id}/", "read"), "to know what should run", is_prefix=True),
            Need(Question("key", f"{state}/versions/", "read"), "to read jobs", is_prefix=True),
            Need(Question("key", f"{state}/control/{node_id}", "read"), "to follow drains"),
            Need(Question("key", f"{state}/leader", "read"), "to find the leader"),
            Need(Question("service", "drover-agent", "write"), "to be seen alive"),
            Need(Question("service", "", "write"), "to register the services of tasks", is_prefix=True),
            Need(Question("node", consul_node, "read"), "to know this machine's name in Consul"),
            Need(Question("agent", consul_node, "read"), "to read the checks of tasks"),
        ]
    if config.server.enabled:
        found += [
            Need(Question("key", f"{state}/", "write"), "to lead", is_prefix=True),
            Need(Question("session", consul_node, "write"), "to hold the leader's lock"),
            Need(Question("service", "drover-server", "write"), "to be a candidate for leader"),
            Need(Question("service", "", "read"), "to see who is healthy", is_prefix=True),
            Need(Question("node", "", "read"), "to see who is alive", is_prefix=True),
        ]
    return found


async def _rights(config: AgentConfig, transport: HttpTransport, consul_node: str) -> tuple[list[Finding], str]:
    asked = HttpTransport(local_consul.endpoint(config, contexts(config.tls, config.consul)))
    authority = Authority(transport=asked, datacenter=config.consul.home_datacenter, root=config.consul.kv_path, now_s=lambda: 0.0)
    try:
        if await authority.find_mode() is Mode.OFF:
            return [ok("consul acl", "ACLs are off in Consul: every token may do everything")], ""
        wanted = needs(config, _node_id(config), consul_node)
        allowed = await authority.allowed(config.consul.token, {one.question for one in wanted})
    except UnknownToken:
        return [failed("consul acl", "Consul does not know drover's token", "set consul { token } to one that exists")], ""
    finally:
        await authority.close()
    missing = [one for one in wanted if one.question not in allowed]
    if not missing:
        return [ok("consul acl", f"the token has all {len(wanted)} rights that this agent needs")], ""
    found = [failed("consul acl", f"the token lacks {one.rule} ({one.purpose})", "add the rule below to its policy") for one in missing]
    return found, "".join(f"{one.rule}\n" for one in missing)


def _node_id(config: AgentConfig) -> str:
    path = DataDir(config.data_dir).path / "node-id"
    try:
        return path.read_text().strip()
    except OSError:
        return NO_NODE


async def _entropy(transport: HttpTransport, node: str) -> list[Finding]:
    """Whether the catalog has what the agent has: Consul sees to that itself, within seconds."""
    mine = await transport.request("GET", "/v1/agent/services", timeout_s=_CALL_S_MAX)
    theirs = await transport.request("GET", f"/v1/catalog/node/{node}", timeout_s=_CALL_S_MAX)
    if mine.status != 200 or theirs.status != 200:
        return []
    local, catalog = set(json.loads(mine.body)), set((json.loads(theirs.body) or {}).get("Services") or {}) - {"consul"}
    if lost := sorted((local ^ catalog) - {"consul"}):
        text = f"{len(lost)} services are known to the agent or to the catalog alone ({', '.join(lost[:3])})"
        remedy = "again in a minute; if it stays so, the agent's token (acl.tokens.agent, default) may not write node or services"
        return [warning("consul anti-entropy", text, remedy)]
    return [ok("consul anti-entropy", f"agent and catalog agree on {len(local)} services")]
