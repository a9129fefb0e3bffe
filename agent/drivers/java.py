"""A Java program, run as the exec driver runs any: `java [jvm_options] [-cp class_path] -jar jar_path | class [args]`."""

import os
import re
import shutil
from collections.abc import Mapping

import msgspec

from agent.drivers import command
from agent.drivers.base import TaskStart
from agent.drivers.exec import Exec
from agent.drivers.raw_exec import texts
from model.errors import TaskRefused
from model.node import DriverInfo

_ASK_S_MAX = 10.0
# `openjdk version "17.0.15" 2025-04-15`; the two lines after it name the runtime and the virtual machine.
_VERSION = re.compile(r'version "([^"]+)"')


class Java(Exec):
    name = "java"

    async def fingerprint(self) -> DriverInfo:
        java = shutil.which("java", path=self._environ.get("PATH", os.defpath))
        if java is None:
            return DriverInfo(detected=False, healthy=False, health_description="java is not on PATH")
        found = await super().fingerprint()
        if not found.healthy:
            return found
        code, said = await command.run([java, "-version"], env=self._environ, cwd="/", timeout_s=_ASK_S_MAX)
        lines = said.decode("utf-8", "replace").splitlines()
        version = _VERSION.search(lines[0]) if lines else None
        if code or version is None or len(lines) < 3:
            return DriverInfo(detected=True, healthy=False, health_description=f"java -version failed: {' '.join(lines)[:200]}")
        facts = {"version": version[1], "runtime": lines[1].strip(), "vm": lines[2].strip()}
        attributes = {**found.attributes, **{f"driver.java.{name}": value for name, value in facts.items()}}
        return msgspec.structs.replace(found, attributes=attributes)

    def _program(self, task: TaskStart, env: Mapping[str, str]) -> list[str]:
        config = task.config
        jar, main_class = str(config.get("jar_path") or ""), str(config.get("class") or "")
        if not jar and not main_class:
            raise TaskRefused("config: jar_path or class is missing")
        java = shutil.which("java", path=env.get("PATH", os.defpath))
        if java is None:
            raise TaskRefused("java is not on PATH")
        path = str(config.get("class_path") or "")
        what = ["-jar", jar] if jar else [main_class]
        return [java, *texts(config, "jvm_options"), *(["-cp", path] if path else []), *what, *texts(config, "args")]
