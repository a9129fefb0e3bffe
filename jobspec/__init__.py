"""HCL text or JSON -> model.Job: parsing, defaults, validation, interpolation.

    text --parse--> submission document --canonicalize--> Job --validate--> faults
    JSON body ------------^

The submission document is Nomad's JSON API shape with null for what is not set. The heavy modules are
imported by the first call that needs them, so that `drover version` does not pay for a parser.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import Fault, JobspecError

if TYPE_CHECKING:
    from jobspec.positions import SourceMap
    from model.job import Job

__all__ = [
    "Fault",
    "JobspecError",
    "canonicalize",
    "parse",
    "read_file",
    "read_job",
    "valid_job",
    "validate",
    "warnings",
]


def parse(
    text: bytes,
    *,
    file: str,
    variables: Mapping[str, str] = {},
    var_files: Sequence[tuple[str, bytes]] = (),
    environ: Mapping[str, str] = {},
    reads_files: bool = True,
    allows_any_file: bool = False,
    is_hcl1: bool = False,
) -> dict[str, Any]:
    """The submission document of a job file: what `nomad job run -output` prints inside {"Job": …}.

    variables: the values of -var. var_files: name and bytes of each -var-file. environ: where NOMAD_VAR_x
    is looked up. reads_files: whether file() and its kin are known; never for a text from the network. allows_any_file:
    whether they may leave the job file's directory. is_hcl1: the language of Nomad before 1.0, without variables
    and expressions.
    Raises JobspecError with every fault found.
    """
    from jobspec.reading import parse_text

    return parse_text(
        text,
        file=file,
        variables=variables,
        var_files=var_files,
        environ=environ,
        reads_files=reads_files,
        allows_any_file=allows_any_file,
        is_hcl1=is_hcl1,
    )


def canonicalize(
    document: Mapping[str, Any], *, source: "SourceMap | None" = None, is_strict: bool = False
) -> "Job":
    """The job of a submission document, with all of Nomad's defaults filled in.

    document: from `parse`, or a JSON API body, with or without the `Job` wrapper; unknown keys are
    ignored, nulls mean unset. source: gives faults a line; `parse` results carry their own.
    is_strict: what only drover has is a fault (`-nomad-strict`).
    Raises JobspecError with every fault found.
    """
    from jobspec.canonical import canonical_job

    return canonical_job(document, source, is_strict=is_strict)


def validate(job: "Job") -> tuple[Fault, ...]:
    """Everything that is wrong with a canonical job, as Nomad's server would say; empty when it may run."""
    from jobspec.validation import job_faults

    return job_faults(job)


def warnings(job: "Job") -> tuple[str, ...]:
    """What is allowed but probably not meant."""
    from jobspec.advice import job_warnings

    return job_warnings(job)


def read_job(text: bytes, *, file: str, **how: Any) -> "Job":
    """parse (with its arguments), canonicalize and validate at once. Raises JobspecError with every fault found."""
    return valid_job(parse(text, file=file, **how))


def valid_job(
    document: Mapping[str, Any], *, is_strict: bool = False, further: "Callable[[Job], tuple[Fault, ...]] | None" = None
) -> "Job":
    """canonicalize and validate. Raises JobspecError with every fault found, with lines if `parse` made it.

    further: rules of packages that this one does not know.
    """
    from jobspec.positions import Submission, sorted_faults

    job = canonicalize(document, is_strict=is_strict)
    faults = validate(job) + (further(job) if further else ())
    if faults:
        source = document.source if isinstance(document, Submission) else None
        raise JobspecError(sorted_faults(source.locate(fault) if source else fault for fault in faults))
    return job


def read_file(path: str | Path, *, accepts_pipe: bool = False) -> bytes:
    """A job file's bytes. Raises JobspecError with one line when there is no readable file."""
    from jobspec.files import read_file as read

    return read(path, accepts_pipe=accepts_pipe)
