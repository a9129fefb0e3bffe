"""The Docker engine, where one is wanted."""

from agent.drivers.docker_engine import Engine
from configs import AgentConfig
from model.errors import DriverBusy, TaskRefused
from model.finding import Finding, failed, ok, warning

API_MIN = (1, 40)
_CALL_S_MAX = 10.0


async def look(config: AgentConfig) -> list[Finding]:
    if not config.client.enabled:
        return []
    engine = Engine(str(config.plugins.docker.config.get("endpoint", "")))
    try:
        version = await engine.call("GET", "version", wait_s_max=_CALL_S_MAX)
        info = await engine.call("GET", "info", wait_s_max=_CALL_S_MAX)
    except (DriverBusy, TaskRefused) as error:
        remedy = "start it (systemctl start docker), or do without: other drivers need no engine"
        return [warning("docker", f"no Docker engine answers: {error}", remedy)]
    finally:
        await engine.close()
    found = []
    numbers = tuple(int(part) for part in str(version.get("ApiVersion", "0.0")).split("."))
    text = f"{version.get('Version')}, cgroup {info.get('CgroupDriver')} v{info.get('CgroupVersion', '1')}, storage {info.get('Driver')}"
    found.append(ok("docker", text) if numbers >= API_MIN else failed("docker", text, "drover needs Docker Engine 20.10 or later"))
    if info.get("Driver") in ("vfs", "devicemapper", "aufs"):
        remedy = "use overlay2: every container of it copies its whole image, or runs on storage that is no longer kept"
        found.append(warning("docker storage", f"storage driver {info['Driver']}", remedy))
    if not info.get("LiveRestoreEnabled"):
        text = "a restart of dockerd ends every container"
        found.append(warning("docker live-restore", text, 'set "live-restore": true in /etc/docker/daemon.json'))
    return [*found, *(warning("docker", one.removeprefix("WARNING: "), "see Docker's documentation") for one in info.get("Warnings") or ())]
