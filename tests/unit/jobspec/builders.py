"""Small job files and jobs: a valid one with what the test wants changed."""

import textwrap
from typing import Any

import jobspec
from model.errors import Fault, JobspecError
from model.job import Job


def job_text(
    *,
    top: str = "",
    job: str = "",
    group: str = "",
    task: str = "",
    config: str = 'command = "/bin/true"',
    driver: str = "raw_exec",
) -> bytes:
    """A sound job file; each argument adds lines in its block."""
    return (
        textwrap.dedent(
            """\
        {top}
        job "web" {{
          datacenters = ["dc1"]
          {job}
          group "cache" {{
            {group}
            task "redis" {{
              driver = "{driver}"
              config {{
                {config}
              }}
              {task}
            }}
          }}
        }}
        """
        )
        .format(top=top, job=job, group=group, task=task, config=config, driver=driver)
        .encode()
    )


def read(text: bytes) -> Job:
    return jobspec.read_job(text, file="web.hcl")


def faults_of(text: bytes) -> tuple[Fault, ...]:
    """The faults of a text; empty when it is a sound job."""
    try:
        read(text)
    except JobspecError as error:
        return error.faults
    return ()


def messages_of(text: bytes) -> list[str]:
    return [str(fault) for fault in faults_of(text)]


def config_value(expression: str, **parse: Any) -> Any:
    """What a driver's config holds after `v = expression`."""
    document = jobspec.parse(job_text(config=f"v = {expression}"), file="web.hcl", **parse)
    return document["TaskGroups"][0]["Tasks"][0]["Config"].get("v")
