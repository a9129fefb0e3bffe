"""The policies that drover brings, as tokens of a real Consul, and agents that have nothing else."""

import uuid
from pathlib import Path

from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover

POLICIES = Path(__file__).parents[2] / "configs" / "policies"


def policy(name: str, node_id: str = "") -> str:
    """The rules of one of the files, for this node."""
    return (POLICIES / f"{name}.hcl").read_text().replace("NODE_ID", node_id)


def agent_with_policies(
    consul: ConsulServer, name: str, *, server: bool, settings: str = "", token: str, tokens_of: ConsulServer | None = None
) -> Drover:
    """An agent that is to be started, whose own token has the agent's policy, and the leader's where it may lead.
    token: the test's. tokens_of: the Consul that makes them, where it is another one's agent."""
    node_id = str(uuid.uuid4())
    rules = [policy("agent", node_id), *([policy("leader", node_id)] if server else [])]
    own = (tokens_of or consul).make_token(f"drover-{name}", *rules)
    more = f'consul {{ token = "{own}" }}\n{settings}'
    drover = Drover(consul, name=name, server=server, settings=more, token=token, log_level="DEBUG")
    drover.data_dir.mkdir()
    (drover.data_dir / "node-id").write_text(f"{node_id}\n")
    drover.node_id, drover.own_token = node_id, own
    return drover
