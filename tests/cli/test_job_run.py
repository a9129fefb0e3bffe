"""`job run` and `job validate`: what is sent, what is printed, how it ends."""

import json
from pathlib import Path

import pytest

from tests.cli.command import NOWHERE, Run, drover, file, keys, masked, placed, without_progress
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.mark.parametrize("words", [("job", "run"), ("run",)], ids=" ".join)
def test_job_run_follows_its_evaluation_to_the_end(words: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    done = run(*words, file(tmp_path, "web"))
    assert (done.code, done.err) == (0, [])
    assert without_progress(masked(done.out)) == without_progress(placed())


def test_an_unchanged_job_is_evaluated_and_places_nothing(run: Run, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    done = run("job", "run", "web.hcl")
    assert (done.code, without_progress(masked(done.out)), done.err) == (0, without_progress(placed(0)), [])


def test_job_run_reads_standard_input(run: Run, one: Drover, tmp_path: Path) -> None:
    text = (tmp_path / file(tmp_path, "web")).read_bytes()
    assert run("job", "run", "-detach", "-", stdin=text).code == 0
    assert [job["ID"] for job in one.get("/v1/jobs")] == ["web"]


@pytest.mark.parametrize("flag", ["-detach", "--detach"])
def test_detached_it_prints_the_evaluation_and_ends(flag: str, run: Run, tmp_path: Path) -> None:
    done = run("job", "run", flag, file(tmp_path, "web"))
    assert (done.code, masked(done.out), done.err) == (
        0, ["Job registration successful", "Evaluation ID: <uuid>"], []
    )


def test_verbose_ids_are_whole(run: Run, tmp_path: Path) -> None:
    done = run("job", "run", "-verbose", file(tmp_path, "web"))
    assert without_progress(masked(done.out)) == [
        line.replace("<id>", "<uuid>") for line in without_progress(placed())
    ]


def test_a_job_that_fits_nowhere_ends_with_2_and_says_why(run: Run, tmp_path: Path) -> None:
    done = run("job", "run", file(tmp_path, "web", NOWHERE))
    assert (done.code, without_progress(masked(done.out)), done.err) == (
        2,
        [
            '==> Monitoring evaluation "<id>"',
            '    Evaluation triggered by job "web"',
            '==> Evaluation "<id>" finished with status "complete"',
            '    Task Group "g" (failed to place 2 allocations):',
            '      * Constraint "${attr.kernel.name} = plan9": 1 nodes excluded by filter',
            '    Evaluation "<id>" waiting for additional capacity',
        ],
        [],
    )


@pytest.mark.parametrize(("flags"), [("-check-index", "0"), ("-check-index=0",), ("--check-index=0",)], ids=" ".join)
def test_check_index_0_takes_a_new_job_only(flags: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    file(tmp_path, "web")
    assert run("job", "run", "-detach", *flags, "web.hcl").code == 0
    again = run("job", "run", "-detach", *flags, "web.hcl")
    assert again.shown == (
        1,
        [],
        ["Error: Unexpected response code: 500 (Enforcing job modify index 0: job already exists)"],
    )


def test_check_index_takes_the_jobs_own_index_only(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", "-detach", file(tmp_path, "web"))
    index = one.get("/v1/job/web")["JobModifyIndex"]
    other = run("job", "run", f"-check-index={index + 1}", "web.hcl")
    conflict = f"Enforcing job modify index {index + 1}: job exists with conflicting job modify index: {index}"
    assert other.shown == (1, [], [f"Error: Unexpected response code: 500 ({conflict})"])
    assert run("job", "run", "-detach", f"-check-index={index}", "web.hcl").code == 0


def test_output_prints_the_submission_and_sends_nothing(
    run: Run, consul: ConsulServer, tmp_path: Path
) -> None:
    def jobs() -> dict[str, int]:
        return {k: v for k, v in keys(consul).items() if k.split("/")[2] in ("jobs", "versions", "evals")}

    before = jobs()
    done = run("job", "run", "-output", file(tmp_path, "web"), address="127.0.0.1:1")
    document = json.loads("\n".join(done.out))["Job"]
    assert (done.code, document["ID"], document["TaskGroups"][0]["Count"]) == (0, "web", 2)
    assert jobs().items() <= before.items()  # of a job purged before, something may still be going


def test_what_output_and_inspect_print_is_the_same_job_with_json(run: Run, one: Drover, tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text("\n".join(run("job", "run", "-output", file(tmp_path, "web")).out))
    assert run("job", "validate", "-json", "web.json").shown == (0, ["Job validation successful"], [])
    assert run("job", "run", "-detach", "-json", "web.json").code == 0
    (tmp_path / "inspected.json").write_text("\n".join(run("job", "inspect", "web").out))
    assert run("job", "run", "-detach", "-json", "inspected.json").code == 0
    assert run("job", "run", "-detach", "web.hcl").code == 0
    assert one.get("/v1/job/web")["Version"] == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"Job": ', "web.json:1:9: not JSON: Expecting value"),
        ("[]", 'web.json: expected an object, as {"Job": {…}}'),
        ('{"Job": []}', 'job: not a job: "ID" is missing (a job document was expected)'),
        ("[" * 100_000, "web.json: not JSON: nested too deeply"),
        ('{"Job": {"ID": "web", "TaskGroups": 5}}', "job.web.group: expected a list, found a number"),
    ],
    ids=["half", "list", "no job", "deep", "wrong type"],
)
def test_a_wrong_job_with_json_is_refused(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text(text)
    done = drover("job", "validate", "-json", "web.json", cwd=tmp_path)
    assert (done.code, done.out, done.err[:1]) == (1, [], [line])


def test_a_job_that_was_purged_is_no_part_of_the_next_one_of_its_name(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    assert run("job", "run", file(tmp_path, "web", NOWHERE)).code == 2
    one.stop_job("web", purge=True)
    assert run("job", "run", file(tmp_path, "web")).code == 0


def test_a_valid_file_is_said_to_be_valid_without_any_agent(tmp_path: Path) -> None:
    done = drover("job", "validate", file(tmp_path, "web"), cwd=tmp_path, address="127.0.0.1:1")
    assert done.shown == (0, ["Job validation successful"], [])
