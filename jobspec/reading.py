"""How does the text of a job file become a submission document?"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from jobspec import deep
from jobspec.evaluate import Function, Scope
from jobspec.files import file_functions
from jobspec.functions import FUNCTIONS, PRICES
from jobspec.mapper import FAULTS_MAX, Mapper, TooManyFaults
from jobspec.positions import SourceMap, Submission, sorted_faults
from jobspec.suggest import did_you_mean
from jobspec.syntax.parser import parse_body
from jobspec.syntax.source import Source, read_text
from jobspec.syntax.tree import Block, Body
from jobspec.variables import Variables
from model.errors import Fault, JobspecError

# A job's own structure has ten levels, a driver's configuration at most 64 (document.py).
_LEVELS_MAX = 128
_BLOCKS = ("job", "variable", "variables", "locals")


def parse_text(
    text: bytes,
    *,
    file: str,
    variables: Mapping[str, str],
    var_files: Sequence[tuple[str, bytes]],
    environ: Mapping[str, str],
    reads_files: bool,
    allows_any_file: bool,
    is_hcl1: bool,
) -> Submission:
    """The submission document of a job file. Raises JobspecError with every fault found."""

    def read() -> Submission:
        source = read_text(text, file)
        if is_hcl1:
            source = Source(source.text.replace("\r\n", "\n"), file)
        body = _body(source, is_hcl1=is_hcl1)
        functions = dict(FUNCTIONS)
        if reads_files:
            functions |= file_functions(Path(file).parent, allows_any_file=allows_any_file)
        document = _document(source, body, variables, var_files, environ, functions)
        # Levels of expressions are one thing; whatever gets the document walks it by recursion.
        if deep.nests_deeper(document, _LEVELS_MAX):
            source.refuse(body.blocks[-1].at, "a value in this block is nested too deeply")
        return document

    try:
        return deep.run(read)
    except RecursionError:  # the nesting limit comes first; this is for a machine without memory for the stack
        raise JobspecError((Fault(message="nested too deeply", where=file),)) from None


def _body(source: Source, *, is_hcl1: bool) -> Body:
    if not source.text.strip():
        raise JobspecError((source.fault(0, 'the file is empty (expected a block job "name" { … })'),))
    if source.text.lstrip().startswith("{"):
        from jobspec.jsonbody import job_file_body

        return job_file_body(source)
    if is_hcl1:
        from jobspec.hcl1body import hcl1_file_body

        return hcl1_file_body(source)
    return parse_body(source)


def _document(
    source: Source,
    body: Body,
    given: Mapping[str, str],
    files: Sequence[tuple[str, bytes]],
    environ: Mapping[str, str],
    functions: Mapping[str, Function],
) -> Submission:
    faults = _top_level_faults(source, body)
    jobs = [block for block in body.blocks if block.kind == "job"]
    names = Variables(source, Scope(functions=functions, prices=PRICES))
    scope = names.scope(body, given=given, files=files, environ=environ)
    faults += names.faults
    mapper = Mapper(SourceMap(source))
    document = Submission()
    for block in jobs[:1]:
        try:
            document.update(mapper.job(block, scope))
        except TooManyFaults:
            mapper.faults.append(Fault(message=f"and more: only the first {FAULTS_MAX} faults are shown"))
    document.source = mapper.source
    faults += mapper.faults
    if faults:
        raise JobspecError(sorted_faults(faults))
    return document


def _top_level_faults(source: Source, body: Body) -> list[Fault]:
    faults = [
        source.fault(
            setting.at,
            f'unknown argument "{setting.name[:60]}" outside of the job block (expected job "name" {{ … }})',
        )
        for setting in islice(body.settings.values(), FAULTS_MAX)
    ]
    jobs: list[Block] = []
    for block in body.blocks:
        if block.kind == "job":
            jobs.append(block)
        elif block.kind not in _BLOCKS and len(faults) < FAULTS_MAX:
            faults.append(
                source.fault(
                    block.at, f'unknown block "{block.kind[:60]}"{did_you_mean(block.kind, _BLOCKS)}'
                )
            )
    if not jobs and not faults:
        faults.append(source.fault(0, 'not a job file: there is no block job "name" { … }'))
    if len(jobs) > 1:
        faults.append(source.fault(jobs[1].at, "only one job block is allowed in a file"))
    return faults
