"""How does a task run as a container, and outlive drover?

The engine keeps the container, its exit code and its output; drover keeps nothing but the name,
`<task>-<alloc id>`, and finds everything else by it and by labels:

    drover.node drover.alloc drover.task drover.attempt drover.job drover.group drover.namespace

The attempt makes a start idempotent: a container of this attempt is taken as it is, one of an earlier
attempt is removed first. An engine that restarts or does not answer is DriverBusy, never an end.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.drivers import docker_session
from agent.drivers.base import (
    ExecSession,
    ExitResult,
    Handle,
    SeenDirs,
    StartFailed,
    TaskDirs,
    TaskStart,
    TaskStats,
)
from agent.drivers.docker_config import (
    READABLE_LOGS,
    SEEN_DIRS,
    DockerConfig,
    DockerRules,
    container,
    inside_ports,
    parse_config,
)
from agent.drivers.docker_engine import Engine, NotThere, split_image
from agent.drivers.docker_logs import ContainerLogs
from agent.drivers.process import boot_id
from checks.registration import TaskNetwork
from jobspec.durations import parse_duration
from model.errors import DriverBusy, TaskRefused
from model.node import DriverInfo, NodeId
from model.wire import seconds

log = logging.getLogger(__name__)

# The engine creates containers one by one behind a few locks; more at once only wait inside it.
_STARTS_AT_ONCE = 8
# The engine has all output of an ended container; this long for a disk that is busy.
_LOGS_S_MAX = 10.0
_OUTPUT_BYTES_MAX = 65_536
PORTS_LABEL = "drover.ports"  # which number inside each of the group's ports has: http=8080,admin=9000
_STOP_SIGNAL = "SIGTERM"  # Nomad's default for containers, where others get SIGINT


class Docker:
    """run_dir: a folder of data_dir. endpoint: unix:///path, tcp://host:port; empty: DOCKER_HOST or the usual one."""

    name = "docker"

    def __init__(
        self, node_id: NodeId, run_dir: Path, *, endpoint: str = "", rules: DockerRules | None = None
    ) -> None:
        self._node_id = node_id
        self._run_dir = run_dir
        self._rules = rules or DockerRules()
        self._engine = Engine(endpoint)
        self._turn = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._pulling: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        """Ends the connections; containers run on."""
        await self._engine.close()

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        return SEEN_DIRS

    async def fingerprint(self) -> DriverInfo:
        try:
            version = await self._engine.call("GET", "version", wait_s_max=10.0)
        except (DriverBusy, StartFailed) as error:
            return DriverInfo(detected=False, healthy=False, health_description=str(error))
        attributes = {
            "driver.docker": "1",
            "driver.docker.version": str(version.get("Version", "")),
            "driver.docker.privileged.enabled": str(self._rules.allow_privileged).lower(),
            "driver.docker.volumes.enabled": str(self._rules.volumes_enabled).lower(),
        }
        return DriverInfo(detected=True, healthy=True, health_description="Healthy", attributes=attributes)

    async def start(self, task: TaskStart) -> Handle:
        config = parse_config(task.config)
        name = _name(task.alloc_id, task.task_name)
        handle = Handle(
            driver=self.name,
            alloc_id=task.alloc_id,
            task_name=task.task_name,
            attempt=task.attempt,
            boot_id=boot_id(),
        )
        body = container(task, config, self._rules, self._labels(task, config))
        found = await self._engine.inspect(name)
        if found is not None and not _is_attempt(found, task.attempt):
            await self.remove(name)
            found = None
        if found is None:
            await self._have_image(config, task)
        async with self._turn:
            if found is None:
                await self._engine.call("POST", "containers/create", params={"name": name}, body=body)
            if found is None or found["State"]["Status"] == "created":
                await self._engine.call("POST", f"containers/{name}/start")
        return handle

    async def recover(self, handle: Handle) -> bool:
        found = await self._engine.inspect(_container(handle))
        if found is None or not _is_attempt(found, handle.attempt) or found["State"]["Status"] == "created":
            return False
        # The engine ends what a reboot killed with a code of its own invention, after the boot.
        return bool(
            found["State"]["Running"] or handle.boot_id == boot_id() or _ended_at(found) < _booted_at()
        )

    async def wait(self, handle: Handle) -> ExitResult:
        """Follows the output, too: both end with the container."""
        busy: DriverBusy | StartFailed | None = None
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(handle), name=f"logs {_container(handle)}")
            try:
                result = await self._ended(handle)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOGS_S_MAX):
                        await asyncio.shield(following)
            except (DriverBusy, StartFailed) as error:
                busy = error  # raised below: out of a TaskGroup it would come in an ExceptionGroup
            following.cancel()
        if busy is not None:
            raise busy
        return result

    async def signal(self, handle: Handle, signal: str) -> None:
        try:
            await self._engine.call(
                "POST", f"containers/{_container(handle)}/kill", params={"signal": signal}
            )
        except NotThere:
            return
        except StartFailed as error:
            if not await self._is_running(handle):
                return
            raise TaskRefused(str(error)) from error

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> None:
        with suppress(TaskRefused):  # an unknown signal: the kill below does it
            await self.signal(handle, signal or _STOP_SIGNAL)
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended(handle)
        except TimeoutError:
            await self.signal(handle, "SIGKILL")
            await self._ended(handle)

    async def destroy(self, handle: Handle) -> None:
        found = await self._engine.inspect(_container(handle))
        if found is not None and _is_attempt(found, handle.attempt):
            await self.remove(_container(handle))
        self._log_record(handle).unlink(missing_ok=True)

    async def execute(self, handle: Handle, argv: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._engine.execute(_container(handle), argv, _OUTPUT_BYTES_MAX)
        except TimeoutError:
            return 124, b"timed out"
        except StartFailed as error:
            return 126, str(error).encode()

    @asynccontextmanager
    async def session(
        self, handle: Handle, argv: Sequence[str], *, is_tty: bool
    ) -> AsyncIterator[ExecSession]:
        async with docker_session.run(self._engine, _container(handle), argv, is_tty=is_tty) as running:
            yield running

    async def stats(self, handle: Handle) -> TaskStats:
        found = await self._engine.call(
            "GET", f"containers/{_container(handle)}/stats", params={"stream": 0, "one-shot": 1}
        )
        usage = found.get("memory_stats", {})
        cache = usage.get("stats", {}).get("total_inactive_file", 0)
        return TaskStats(
            cpu_s=found.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0) / 1e9,
            memory_bytes=max(usage.get("usage", 0) - cache, 0),
        )

    async def network(self, handle: Handle) -> TaskNetwork | None:
        found = await self._engine.inspect(_container(handle))
        if found is None or not _is_attempt(found, handle.attempt):
            return None
        labels = found["Config"].get("Labels") or {}
        ports = {label: int(number) for label, _, number in (one.partition("=") for one in labels.get(PORTS_LABEL, "").split(",") if one)}
        mode = str(found["HostConfig"]["NetworkMode"])
        if mode.startswith("container:"):
            found = await self._engine.inspect(mode.partition(":")[2]) or {}
        address = _address(found)
        if not address:
            return None
        # The engine's own bridge ends at this machine; who made a network of another kind wants it used.
        is_users = mode not in ("default", "bridge") and not mode.startswith("container:")
        return TaskNetwork(address=address, ports=ports, is_advertised=is_users)

    async def leftovers(self) -> Sequence[Mapping[str, Any]]:
        """All containers that carry this node's label, as the engine lists them; for clean-up."""
        filters = f'{{"label":["drover.node={self._node_id}"]}}'
        found: Sequence[Mapping[str, Any]] = await self._engine.call(
            "GET", "containers/json", params={"all": 1, "filters": filters}
        )
        return found

    # Images.

    async def _have_image(self, config: DockerConfig, task: TaskStart) -> None:
        """Pulls when the image is absent, is :latest or is to be pulled each time; a local one will do if not."""
        image = config.image
        must_pull = config.force_pull or split_image(image)[1] == "latest"
        async with self._pulling.setdefault(image, asyncio.Lock()):
            is_here = await self._engine.has_image(image)
            if is_here and not must_pull:
                return
            if not is_here or config.force_pull:
                task.say(f"Downloading image {image}")
            try:
                await self._engine.pull(image, _auth(config), _pull_s_max(config, self._rules))
            except StartFailed as error:
                if not is_here:
                    raise
                log.info("%s: kept as it is here: %s", image, error)

    # Containers.

    async def _ended(self, handle: Handle) -> ExitResult:
        """Returns when the container does not run. One that is gone was removed by somebody else."""
        name = _container(handle)
        while True:
            found = await self._engine.inspect(name)
            if found is None or not _is_attempt(found, handle.attempt):
                return ExitResult(code=-1, error="the container was removed by somebody else")
            if not found["State"]["Running"]:
                return _result(found)
            with suppress(NotThere):
                await self._engine.call("POST", f"containers/{name}/wait", wait_s_max=None)

    async def _follow(self, handle: Handle) -> None:
        logs: ContainerLogs | None = None
        while True:
            try:
                if logs is None:
                    found = await self._engine.inspect(_container(handle))
                    if found is None or found["HostConfig"]["LogConfig"]["Type"] not in READABLE_LOGS:
                        return
                    logs = self._logs(handle, found)
                await logs.follow(self._engine, _container(handle))
            except NotThere:
                return
            except (DriverBusy, StartFailed, OSError) as error:
                log.info("container %s: output is followed again soon: %s", _container(handle), error)
                await asyncio.sleep(1.0)
            else:
                if not await self._is_running(handle):
                    return

    async def _is_running(self, handle: Handle) -> bool:
        try:
            found = await self._engine.inspect(_container(handle))
        except (DriverBusy, StartFailed):
            return True
        return found is not None and bool(found["State"]["Running"])

    async def remove(self, name: str) -> None:
        """A container, running or not, with its own volumes. One that is gone is no fault."""
        with suppress(NotThere):
            await self._engine.call("DELETE", f"containers/{name}", params={"force": 1, "v": 1})

    def _logs(self, handle: Handle, found: Mapping[str, Any]) -> ContainerLogs:
        folder = Path(found["Config"]["Labels"]["drover.logs"])
        stems = {stream: folder / f"{handle.task_name}.{stream}" for stream in ("stdout", "stderr")}
        return ContainerLogs(stems, self._log_record(handle))

    def _log_record(self, handle: Handle) -> Path:
        return self._run_dir / f"{_container(handle)}.{handle.attempt}.log"

    def _labels(self, task: TaskStart, config: DockerConfig) -> Mapping[str, str]:
        return {
            **{f"drover.{key}": value for key, value in task.labels.items()},
            "drover.node": self._node_id,
            "drover.alloc": task.alloc_id,
            "drover.task": task.task_name,
            "drover.attempt": str(task.attempt),
            "drover.logs": str(task.dirs.logs),
            PORTS_LABEL: ",".join(f"{label}={number}" for label, number in inside_ports(task, config).items()),
        }


def _address(found: Mapping[str, Any]) -> str:
    """Of a container; IPv4 before IPv6. Empty: it has none of its own."""
    networks = [one for one in (found.get("NetworkSettings", {}).get("Networks") or {}).values() if one]
    addresses = [one.get(name) for name in ("IPAddress", "GlobalIPv6Address") for one in networks]
    return str(next(filter(None, addresses), ""))


def _name(alloc_id: str, task_name: str) -> str:
    return f"{task_name}-{alloc_id}"


def _container(handle: Handle) -> str:
    return _name(handle.alloc_id, handle.task_name)


def _is_attempt(found: Mapping[str, Any], attempt: int) -> bool:
    labels = found["Config"].get("Labels") or {}
    return bool(labels.get("drover.attempt") == str(attempt))


def _auth(config: DockerConfig) -> Mapping[str, str]:
    names = {
        "username": "username",
        "password": "password",
        "email": "email",
        "server_address": "serveraddress",
    }
    return {names[key]: value for key, value in config.auth.items() if key in names}


def _pull_s_max(config: DockerConfig, rules: DockerRules) -> float:
    if not config.image_pull_timeout:
        return rules.pull_s_max
    try:
        return seconds(parse_duration(config.image_pull_timeout))
    except ValueError as error:
        raise TaskRefused(f"config: image_pull_timeout: {error}") from error


def _result(found: Mapping[str, Any]) -> ExitResult:
    state = found["State"]
    code = int(state["ExitCode"])
    return ExitResult(
        code=code,
        signal=code - 128 if 128 < code < 128 + 65 else 0,
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        ended_at=_ended_at(found),
    )


def _ended_at(found: Mapping[str, Any]) -> float:
    stamp = str(found["State"].get("FinishedAt", ""))
    if not stamp or stamp.startswith("0001-"):
        return 0.0
    # Nine digits of a second are three more than Python reads.
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def _booted_at() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
