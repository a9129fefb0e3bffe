"""What the placement benchmark says when what it is asked for cannot be."""

import json

import pytest

from benchmarks import placement


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--nodes", "0"), "argument --nodes: must be at least 1, found 0"),
        (("--nodes", "-5"), "argument --nodes: must be at least 1, found -5"),
        (("--count", "0"), "argument --count: must be at least 1, found 0"),
        (("--load", "-1"), "argument --load: must be at least 0, found -1"),
        (("--nodes", "many"), "argument --nodes: invalid whole_number value: 'many'"),
    ],
    ids=str,
)
def test_numbers_that_make_no_cluster_are_refused(
    argv: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        placement.main(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {told}")


def test_of_too_few_nodes_those_that_found_room_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    placement.main(("--nodes", "3", "--count", "5", "--case", "distinct", "--json"))
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["placed"]) == (5, 3)
