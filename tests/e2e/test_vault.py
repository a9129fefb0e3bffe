"""Secrets on real Consul and real processes: fetched, kept, renewed and revoked, and never a reason to hurt what runs.

The Vault is tests/vault/double.py; what it says is checked against the published API there.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import tmpfs
from tests.api.test_events import Following
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Answer, Drover, is_alive, job, marking_job, restart, stays, wait
from tests.e2e.test_templates import events, started, template
from tests.vault.double import Double

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")]

# Forty secrets that must be found nowhere but in memory.
PLANTED = {f"field{n}": f"planted-{n:02d}-hunter2" for n in range(40)}
# Writes its environment where only memory is.
SCRIPT = "env > secrets/seen; echo $$ >> starts; exec sleep 100000"


@dataclass(slots=True)
class Cluster:
    """`own`, the leader, has a Vault token; `none` has not, and asks the leader for its tasks'."""

    consul: ConsulServer
    vault: Double
    own: Drover
    none: Drover

    def submit(self, job_id: str, agent: Drover, *templates: dict[str, Any], count: int = 1, **vault: Any) -> tuple[str, Path]:
        """Runs on that node. Returns (alloc id, the task's directory)."""
        self.own.submit(secret_job(job_id, agent.name, *templates, count=count, **vault))
        alloc = self.own.wait_running(job_id, count)[0]["ID"]
        wait("its environment", lambda: (agent.task_dir(alloc) / "secrets" / "seen").exists() and agent.pids(alloc))
        return alloc, agent.task_dir(alloc)


def secret_job(job_id: str, node: str, *templates: dict[str, Any], count: int = 1, **vault: Any) -> dict[str, Any]:
    here = [{"LTarget": "${node.unique.name}", "Operand": "=", "RTarget": node}]
    group = {"Constraints": here, "RestartPolicy": restart()}
    asked = {"Policies": ["app"], "ChangeMode": "noop", **vault}
    return job(job_id, "/bin/sh", ["-c", SCRIPT], count=count, group=group, Vault=asked, Templates=list(templates))


@pytest.fixture(scope="module")
def vault() -> Iterator[Double]:
    with Double() as double:
        double.policy("app", 'path "kv/*" { capabilities = ["read", "list"] } path "database/creds/*" { capabilities = ["read"] }')
        double.put("kv/app", PLANTED)
        double.database_role("app", ttl_s=600)
        yield double


@pytest.fixture(scope="module")
def cluster(vault: Double) -> Iterator[Cluster]:
    with or_skip(lambda: ConsulServer().__enter__()) as consul:
        block = f'address = "{vault.address}" timeout = "2s"'
        with (
            Drover(consul, name="own", settings=f'vault {{ enabled = true {block} token = "{vault.root}" }}') as own,
            Drover(consul, name="none", server=False, settings=f"vault {{ enabled = true {block} }}") as none,
        ):
            own.wait_ready(2)
            yield Cluster(consul, vault, own, none)


def held(vault: Double, token: str) -> Any:
    """What Vault knows of it; None: it has ended."""
    return vault.tokens.find(token)


@pytest.mark.parametrize("by", ["own", "none"])
def test_a_task_has_its_token_and_secrets_in_memory_alone_and_the_token_ends_with_it(cluster: Cluster, by: str) -> None:
    agent: Drover = getattr(cluster, by)
    secret = '{{ with secret "kv/app" }}{{ .Data.field0 }}{{ end }}'
    alloc, task = cluster.submit(
        f"lives-{by}", agent, template(secret, "secrets/out"), template(f"PASSWORD={secret}", "secrets/env", Envvars=True)
    )
    assert tmpfs.is_in_memory(task / "secrets")
    token_file = task / "secrets" / "vault_token"
    token = token_file.read_text()
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert (task / "secrets/out").read_text() == PLANTED["field0"]
    seen = (task / "secrets/seen").read_text()
    assert f"VAULT_TOKEN={token}\n" in seen
    assert f"PASSWORD={PLANTED['field0']}\n" in seen
    facts = held(cluster.vault, token)
    assert (sorted(facts.policies), facts.meta["AllocationID"]) == (["app", "default"], alloc)
    cluster.own.stop_job(f"lives-{by}")
    wait("its token's end", lambda: held(cluster.vault, token) is None)
    cluster.own.stop_job(f"lives-{by}", purge=True)
    cluster.own.call("PUT", "/v1/system/gc")
    wait("its directory's end", lambda: not task.exists())
    assert str(task) not in Path("/proc/self/mountinfo").read_text()


def test_a_job_shows_no_token_and_takes_no_file_where_it_wants_none(cluster: Cluster) -> None:
    alloc, task = cluster.submit("bare", cluster.own, DisableFile=True, Env=False)
    assert sorted(path.name for path in (task / "secrets").iterdir()) == ["seen"]
    assert "VAULT_TOKEN" not in (task / "secrets/seen").read_text()
    shown = json.dumps(cluster.own.alloc(alloc))
    assert "ccessor" not in shown
    cluster.own.stop_job("bare", purge=True)


def test_vault_away_and_the_agent_killed_restart_and_rewrite_nothing_and_a_new_task_waits(cluster: Cluster) -> None:
    dynamic = '{{ with secret "database/creds/app" }}{{ .Data.username }}{{ end }}'
    static = '{{ with secret "kv/app" }}{{ .Data.field1 }}{{ end }}'
    cluster.submit("many", cluster.own, template(dynamic, "secrets/db"), template(static, "secrets/out"), count=20)
    allocs = [alloc["ID"] for alloc in cluster.own.wait_running("many", 20)]
    wait("twenty processes", lambda: all(cluster.own.pids(alloc) for alloc in allocs))
    files = [cluster.own.task_dir(alloc) / "secrets" / name for alloc in allocs for name in ("db", "out", "vault_token")]
    before = [(path.stat().st_mtime_ns, path.read_text()) for path in files]
    pids = [cluster.own.pids(alloc) for alloc in allocs]

    def is_untouched() -> bool:
        now = [(path.stat().st_mtime_ns, path.read_text()) for path in files]
        return now == before and [cluster.own.pids(a) for a in allocs] == pids and all(is_alive(p[0]) for p in pids)

    cluster.vault.close()
    cluster.own.kill()
    cluster.own.start()
    cluster.own.wait_ready(2)
    stays("Vault away", is_untouched, 3.0)
    cluster.own.submit(secret_job("late", "own"))
    late = wait("its alloc", lambda: cluster.own.allocs("late"))[0]["ID"]
    wait("its reason", lambda: cluster.own.alloc(late)["ClientDescription"].startswith("Waiting for Vault: "))
    assert any(told.startswith("Waiting for Vault: ") for told in events(cluster.own, late))
    with cluster.vault.reopened() as vault:
        began_s = time.monotonic()
        started(cluster.own, "late")
        assert time.monotonic() - began_s < 2.0
        cluster.vault = vault
        stays("Vault back", is_untouched, 3.0)
        assert is_untouched()
        for name in ("many", "late"):
            cluster.own.stop_job(name, purge=True)
        wait("the tokens' end", lambda: all(held(vault, text) is None for _, text in before[2::3]))
    vault = cluster.vault = cluster.vault.reopened()
    vault.__enter__()


def test_who_serves_vault_may_not_need_it_and_is_told_why(cluster: Cluster) -> None:
    port = cluster.vault.port
    proxy = secret_job("proxy", "own")
    proxy["TaskGroups"][0]["Networks"] = [{"ReservedPorts": [{"Label": "vault", "Value": port}]}]
    with pytest.raises(Answer) as refused:
        cluster.own.submit(proxy)
    assert refused.value.status == 409
    assert refused.value.text.startswith(
        "Vault could not be reached without Vault:\n"
        '  job "proxy" needs Vault: its task "t" has a vault block\n'
        f"  -> Vault is reached at {cluster.vault.address}\n"
        f'  -> 127.0.0.1:{port} is held by job "proxy"\n'
    )
    allowed = cluster.own.call("PUT", "/v1/jobs", {"Job": proxy, "AllowVaultCycle": True})
    assert "Vault could not be reached without Vault" in allowed["Warnings"]
    assert "audit: job proxy is allowed to close a Vault cycle" in cluster.own.log
    cluster.own.stop_job("proxy", purge=True)
    cluster.own.submit(marking_job("beside"))  # while what was purged holds the port still
    cluster.own.stop_job("beside", purge=True)
    del proxy["TaskGroups"][0]["Tasks"][0]["Vault"]
    cluster.own.submit(proxy)
    cluster.own.stop_job("proxy", purge=True)


def test_a_version_that_closes_a_circle_is_gone_back_to_only_where_that_is_allowed_and_the_event_says_so(cluster: Cluster) -> None:
    before = job("back", "/bin/sleep", ["1000"], count=0)
    before["TaskGroups"][0]["Networks"] = [{"ReservedPorts": [{"Label": "vault", "Value": cluster.vault.port}]}]
    before["TaskGroups"][0]["Tasks"][0]["Vault"] = {"Policies": ["app"]}
    body = {"Job": before, "AllowVaultCycle": True}
    cluster.own.call("PUT", "/v1/job/back/plan", body)
    assert "audit: job back" not in cluster.own.log, "a plan writes nothing"
    with Following(cluster.own.address, "?topic=Job:back") as stream:
        cluster.own.call("PUT", "/v1/jobs", body)
        after = json.loads(json.dumps(before))
        del after["TaskGroups"][0]["Tasks"][0]["Vault"]
        cluster.own.submit(after)
        refused = cluster.own.run("job", "revert", "-detach", "back", "0")
        assert (refused.returncode, "-allow-vault-cycle submits it all the same" in refused.stderr) == (1, True)
        assert cluster.own.get("/v1/job/back")["Version"] == 1
        done = cluster.own.run("job", "revert", "-detach", "-allow-vault-cycle", "back", "0")
        assert (done.returncode, "Job Warnings:\nVault could not be reached without Vault:" in done.stdout) == (0, True)
        assert cluster.own.get("/v1/job/back")["Version"] == 2
        wait("its events", lambda: [one["Type"] for one in stream.events].count("VaultCycleAllowed") == 2)
    assert cluster.own.log.count("audit: job back is allowed to close a Vault cycle") == 2
    cluster.own.stop_job("back")
    again = cluster.own.run("job", "start", "-detach", "back")
    assert (again.returncode, "-allow-vault-cycle" in again.stderr) == (1, True)
    assert cluster.own.run("job", "start", "-detach", "-allow-vault-cycle", "back").returncode == 0
    cluster.own.stop_job("back", purge=True)


def test_an_upstream_that_cannot_be_read_is_refused_by_name(cluster: Cluster) -> None:
    with pytest.raises(Answer) as refused:
        cluster.own.submit({**job("odd", "/bin/true", []), "Meta": {"drover_upstreams": "http://[bad"}})
    assert "job.odd.meta.drover_upstreams: must be services, host:port or URLs" in refused.value.text


def test_a_task_that_needs_vault_is_placed_only_where_the_agent_has_one(cluster: Cluster) -> None:
    with Drover(cluster.consul, name="plain", server=False) as plain:
        cluster.own.wait_ready(3)
        cluster.own.submit(secret_job("nowhere", "plain"))
        wait("an evaluation", lambda: cluster.own.get("/v1/job/nowhere/evaluations"))
        failed = wait("its failure", lambda: cluster.own.get("/v1/job/nowhere/evaluations")[0].get("FailedTGAllocs"))
        assert "${attr.vault.address} is_set" in json.dumps(failed)
        cluster.own.stop_job("nowhere", purge=True)
        assert plain.get("/v1/agent/vault") == {"Enabled": False}


def test_none_of_forty_secrets_nor_any_token_is_anywhere_but_in_memory(cluster: Cluster) -> None:
    """All of Consul's KV, its own files, the agents' logs and their data_dirs, journals and logs of tasks included."""
    everything = "{{ with secret \"kv/app\" }}{{ range $k, $v := .Data }}{{ $k }}={{ $v }}\n{{ end }}{{ end }}"
    tokens = []
    for agent in (cluster.own, cluster.none):
        _, task = cluster.submit(f"holds-{agent.name}", agent, template(everything, "secrets/all", Envvars=True))
        assert all(value in (task / "secrets/all").read_text() for value in PLANTED.values())
        tokens.append((task / "secrets/vault_token").read_text())
    cluster.own.submit(marking_job("other"))
    needles = [one.encode() for one in (*PLANTED.values(), *tokens, cluster.vault.root)]
    _, keys = cluster.consul.call("GET", "/v1/kv/?recurse&raw")
    assert keys, "there is something to look through"
    configured = {cluster.own.config}  # the root token was written there by the operator
    found, looked = [], 0
    for root in (cluster.own.home, cluster.none.home, cluster.consul.data_dir):
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in configured and not tmpfs.is_in_memory(path.parent):
                text, looked = path.read_bytes(), looked + 1
                found += [(str(path), needle) for needle in needles if needle in text]
    status, dump = cluster.consul.call("GET", "/v1/kv/?recurse")
    assert status == 200
    for entry in dump:
        text = base64.b64decode(entry["Value"] or "")
        found += [(entry["Key"], needle) for needle in needles if needle in text]
    assert found == []
    assert looked > 20
    shown = "".join(
        json.dumps(cluster.own.get(path)) for path in ("/v1/jobs?meta=true", "/v1/allocations?task_states=true", "/v1/agent/self", "/v1/nodes")
    )
    assert not any(needle.decode() in shown for needle in needles)
    for agent in (cluster.own, cluster.none):
        cluster.own.stop_job(f"holds-{agent.name}", purge=True)
