"""What is wrong with the templates that a job brings along? Found without rendering, and all at once."""

from collections.abc import Iterator

from model.errors import Fault
from model.job import Job
from model.job import Template as Block
from template import TemplateFault, parse


def template_faults(job: Job) -> tuple[Fault, ...]:
    """Of texts in the job itself, in the order of the document; what a `source` holds is known only where the task runs."""
    return tuple(
        fault
        for group in job.task_groups
        for task in group.tasks
        for number, block in enumerate(task.templates)
        for fault in _faults(block, f"job.{job.id}.group.{group.name}.task.{task.name}.template[{number}].data", task.vault is not None)
    )


def _faults(block: Block, path: str, has_vault: bool) -> Iterator[Fault]:
    if not block.embedded_tmpl:
        return
    try:
        reads = parse(block.embedded_tmpl, name="data", left=block.left_delim, right=block.right_delim).reads()
        found = reads.faults
        if reads.needs_vault and not has_vault:
            yield Fault(path=path, message="reads secrets from Vault, and the task has no vault block")
    except TemplateFault as fault:
        found = (fault,)
    for one in found:
        yield Fault(path=path, message=f"line {one.line}, column {one.column}: {_one_line(one.words)}")


def _one_line(words: str) -> str:
    return " ".join(words.split())[:500]
