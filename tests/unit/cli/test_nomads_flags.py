"""Flags of Nomad's that drover means little or nothing by: each is taken, taken with a note, or refused with its reason."""

import pytest

from cli import main as command
from cli import nomads_flags

SAMPLES = {"N": "7", "BOOL": "true", "SPAN": "10s"}


def parsed(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on standard error while the words are read; nothing of them is left over."""
    _, unknown = command._build().parse_known_args(words.split())
    assert unknown == []
    return capsys.readouterr().err


def given(path: str, flag: str) -> str:
    """The command with its flag and what it needs beside."""
    name, _, value = flag.partition("=")
    needed = {"agent": "", "ui": "", "monitor": "", "job init": "", "init": ""}
    more = needed.get(path, "" if path.startswith("operator") else "x")
    more = "x 1" if path == "job revert" else "file" if path == "operator snapshot save" else more
    return f"{path} -{name} {SAMPLES.get(value, 'word') if value else ''} {more}"


@pytest.mark.parametrize(("path", "flag"), [(path, flag) for path, flags in nomads_flags._SILENT.items() for flag in flags])
def test_what_is_so_anyway_is_taken_in_silence(path: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(given(path, flag), capsys) == ""


@pytest.mark.parametrize(("path", "flag"), [(path, flag) for path, flags in nomads_flags._NOTED.items() for flag in flags])
def test_what_has_no_effect_is_taken_with_a_note(path: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    why = nomads_flags._NOTED[path][flag]
    assert parsed(given(path, flag), capsys) == f"Note: -{flag.partition('=')[0]} has no effect: {why}\n"


@pytest.mark.parametrize("form", ["-{} value x", "-{}=value x", "x -{}"])
@pytest.mark.parametrize(("path", "flag"), [(path, flag) for path, flags in nomads_flags._REFUSED.items() for flag in flags])
def test_what_drover_does_not_do_is_refused_with_the_reason(path: str, flag: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command._build().parse_known_args([*path.split(), *form.format(flag).split()])
    assert ended.value.code == (255 if path.endswith("plan") else 1)
    assert capsys.readouterr().err.startswith(f"drover {path}: -{flag}: {nomads_flags._REFUSED[path][flag]}\n")


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("job stop -purge=true x", "purge", True),
        ("job stop -purge=false x", "purge", False),
        ("job stop --detach=1 x", "detach", True),
        ("job run -preserve-counts=T x", "preserve_counts", True),
        ("run -detach=False x", "detach", False),
        ("run -hcl2-strict=true x", "hcl2_strict", True),
        ("node drain -enable=true -self -m moved", "message", "moved"),
    ],
)
def test_a_switch_may_have_a_value_as_gos_do(words: str, name: str, value: object) -> None:
    args, unknown = command._build().parse_known_args(words.split())
    assert (getattr(args, name), unknown) == (value, [])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("run -hcl2-strict=false x", "drover run: argument -hcl2-strict/--hcl2-strict: variables that are not declared are always refused"),
        ("stop -eval-priority=high x", "drover stop: argument -eval-priority: expected a number, found 'high'"),
        ("job stop -purge=perhaps x", "drover job stop: argument -purge/--purge: ignored explicit argument 'perhaps'"),
        ("agent -meta", "drover agent: argument -meta/--meta: expected one argument"),
    ],
)
def test_a_wrong_value_is_refused(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command._build().parse_known_args(words.split())
    assert capsys.readouterr().err.splitlines()[0] == line


def test_what_runs_beside_a_task_keeps_its_own_words() -> None:
    args, _ = command._build().parse_known_args(["alloc", "exec", "abc", "tool", "-job=true", "-x=1"])
    assert args.command == ["tool", "-job=true", "-x=1"]
