"""Job files on the command line: an example to begin with, HCL1, and faults shown where they stand."""

import json
from pathlib import Path

from tests.cli.command import drover, on_terminal

WRONG = 'job "j" {\n  datacenters = ["dc1"]\n\tgroup "g" {\n    count = "many" # ü\n  }\n}\n'


def test_init_writes_a_valid_example_and_never_over_a_file(tmp_path: Path) -> None:
    for flags, name in (((), "example.nomad.hcl"), (("-short", "short.hcl"), "short.hcl")):
        first = drover("job", "init", *flags, cwd=tmp_path)
        assert first.shown == (0, [f"Example job file written to {name}"], [])
        assert drover("job", "validate", name, cwd=tmp_path).out == ["Job validation successful"]
        before = (tmp_path / name).read_bytes()
        again = drover("job", "init", *flags, cwd=tmp_path)
        assert again.shown == (1, [], [f"Error: {name} exists already"])
        assert (tmp_path / name).read_bytes() == before


def test_hcl1_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "old.hcl").write_text('job "j" { "meta" = { "a.b" = 0755 } }')
    assert drover("job", "run", "-output", "old.hcl", cwd=tmp_path).code == 1
    shown = drover("job", "run", "-output", "-hcl1", "old.hcl", cwd=tmp_path)
    assert json.loads("".join(shown.out))["Job"]["Meta"] == {"a.b": "493"}
    refused = drover("job", "run", "-hcl1", "-var", "a=b", "old.hcl", cwd=tmp_path)
    assert refused.shown == (1, [], ["Error: HCL1 has no variables (-hcl1 with -var or -var-file)"])


def test_a_terminal_shows_the_line_of_a_fault_with_a_caret_and_a_pipe_does_not(tmp_path: Path) -> None:
    (tmp_path / "wrong.hcl").write_text(WRONG)
    piped = drover("job", "validate", "wrong.hcl", cwd=tmp_path)
    assert piped.err[0].startswith("wrong.hcl:4:13: job.j.group.g.count: ")
    assert "^" not in "".join(piped.err)
    shown = on_terminal("job", "validate", "wrong.hcl", cwd=tmp_path).splitlines()
    at = next(number for number, line in enumerate(shown) if line.startswith("wrong.hcl:4:13:"))
    assert shown[at + 1 : at + 3] == ['        count = "many" # ü', "                ^"]


def test_a_job_file_may_come_through_a_pipe(tmp_path: Path) -> None:
    drover("job", "init", "-short", "a.hcl", cwd=tmp_path)
    text = (tmp_path / "a.hcl").read_bytes()
    for name in ("-", "/dev/stdin", "/dev/fd/0"):
        assert drover("job", "validate", name, cwd=tmp_path, stdin=text).out == ["Job validation successful"]
    empty = drover("job", "validate", "/dev/stdin", cwd=tmp_path)
    assert (empty.code, len(empty.err)) == (1, 1)
