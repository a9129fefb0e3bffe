"""What is one `template` block to the agent: where it goes, whose it is, what it says?"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import msgspec

from agent.hooks.base import TaskContext
from agent.task_files import Owner, TaskFiles, files_of, owner_of
from jobspec.interpolate import interpolate, interpolate_document
from model.errors import TaskRefused
from model.job import Template as Document
from model.wire import Nanoseconds, seconds
from template import Template, TemplateFault, parse

# Nomad's client-wide defaults: a service whose instances are replaced one by one changes many times in a row.
WAIT_MIN_S, WAIT_MAX_S = 5.0, 240.0
SCRIPT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    argv: tuple[str, ...]
    timeout_s: float
    is_fatal: bool
    is_run_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One template of a task, ready to be rendered.

    name: what it is called when something is told of it. digest: of all that it consists of; the same one says the same of the
    same answers. parts: its file's, from the alloc's directory. wait_s: quiet for so long, or for so long altogether.
    """

    name: str
    digest: str
    document: Document
    template: Template
    parts: tuple[str, ...]
    mode: int
    owner: Owner
    wait_s: tuple[float, float]
    script: Script | None

    @property
    def splay_s(self) -> float:
        return seconds(self.document.splay)


def read_blocks(context: TaskContext) -> tuple[Block, ...]:
    """Blocks: sources are read from disk. Raises TaskRefused with the first thing that is wrong, in words for the task's history."""
    env = context.env()
    files = files_of(context, env.variables)
    return tuple(_block(context, files, env.values, number, one) for number, one in enumerate(context.task.templates))


def _block(context: TaskContext, files: TaskFiles, values: Mapping[str, str], number: int, document: Document) -> Block:
    name = document.dest_path or f"template[{number}]"
    text = document.embedded_tmpl
    if document.source_path:
        data = files.read(files.parts(document.source_path, values))
        if data is None:
            raise TaskRefused(f"Template failed: {name}: there is no {document.source_path}")
        text = data.decode("utf-8", "surrogateescape")
    try:
        template = parse(text, name=name, left=document.left_delim, right=document.right_delim)
    except TemplateFault as fault:
        raise TaskRefused(f"Template failed: {fault}") from fault
    task = context.task
    return Block(
        name=name,
        digest=sha256(msgspec.json.encode(document) + text.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        document=document,
        template=template,
        parts=files.parts(document.dest_path, values),
        mode=int(document.perms or "0644", 8) & 0o7777,
        owner=owner_of(interpolate(task.user, values), task.driver, document.uid, document.gid),
        wait_s=_wait_s(document.wait),
        script=_script(document.change_script, values),
    )


def _wait_s(wait: Mapping[str, Nanoseconds | None] | None) -> tuple[float, float]:
    """Without a max it is four times the min, as consul-template has it."""
    low, high = (wait or {}).get("Min"), (wait or {}).get("Max")
    if low is None and high is None:
        return WAIT_MIN_S, WAIT_MAX_S
    low_s = seconds(low or Nanoseconds(0))
    return low_s, max(low_s, seconds(high) if high is not None else 4 * low_s)


def _script(script: Mapping[str, object] | None, values: Mapping[str, str]) -> Script | None:
    if script is None:
        return None
    args = script.get("Args")
    timeout = script.get("Timeout")
    argv = (str(script.get("Command") or ""), *map(str, args if isinstance(args, list | tuple) else ()))
    return Script(
        argv=tuple(interpolate_document(argv, values)),
        timeout_s=seconds(Nanoseconds(timeout)) if isinstance(timeout, int) and timeout > 0 else SCRIPT_TIMEOUT_S,
        is_fatal=bool(script.get("FailOnError")),
        is_run_first=bool(script.get("RunOnFirstRender")),
    )
