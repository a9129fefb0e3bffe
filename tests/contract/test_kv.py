"""The KV store: what single reads and writes answer."""

import base64

import pytest

from tests.contract.conftest import Api


async def test_a_missing_key_is_404_with_an_empty_body_and_an_index(api: Api) -> None:
    for query in ("", "?recurse", "?keys", "?raw"):
        answer = await api.get(api.key + query)
        assert (answer.status, answer.text) == (404, "")
        assert answer.index >= 1
        assert answer.headers["X-Consul-Knownleader"] == "true"
        assert answer.headers["X-Consul-Lastcontact"] == "0"


async def test_a_written_key_is_read_back_with_its_indexes(api: Api) -> None:
    assert (await api.put(api.key + "?flags=42", "one")).text == "true"
    answer = await api.get(api.key)
    [pair] = answer.json
    assert list(pair) == ["LockIndex", "Key", "Flags", "Value", "CreateIndex", "ModifyIndex"]
    assert (pair["LockIndex"], pair["Key"], pair["Flags"]) == (0, api.name, 42)
    assert base64.b64decode(pair["Value"]) == b"one"
    assert pair["CreateIndex"] == pair["ModifyIndex"] == answer.index
    assert answer.headers["Content-Type"] == "application/json"


async def test_an_empty_value_is_null(api: Api) -> None:
    await api.put(api.key, "")
    assert (await api.get(api.key)).json[0]["Value"] is None
    assert (await api.get(api.key + "?raw")).text == ""


async def test_raw_is_the_value_itself_as_text_plain(api: Api) -> None:
    await api.put(api.key, b"\x00\xffbytes")
    answer = await api.get(api.key + "?raw")
    assert answer.body == b"\x00\xffbytes"
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.index > 1


async def test_an_equal_write_answers_true_and_changes_no_index(api: Api) -> None:
    await api.put(api.key, "same")
    before = (await api.get(api.key)).json
    assert (await api.put(api.key, "same")).text == "true"
    assert (await api.get(api.key)).json == before
    index = before[0]["ModifyIndex"]
    assert (await api.put(f"{api.key}?cas={index}", "same")).text == "true"
    assert (await api.put(f"{api.key}?cas={index}", "same")).text == "true"
    assert (await api.get(api.key)).json == before


async def test_other_flags_are_a_change(api: Api) -> None:
    await api.put(api.key, "v")
    before = (await api.get(api.key)).json[0]["ModifyIndex"]
    await api.put(api.key + "?flags=7", "v")
    assert (await api.get(api.key)).json[0]["ModifyIndex"] > before


async def test_cas_writes_only_at_the_index_that_was_read(api: Api) -> None:
    assert (await api.put(api.key + "?cas=1", "x")).text == "false"
    assert (await api.put(api.key + "?cas=0", "x")).text == "true"
    assert (await api.put(api.key + "?cas=0", "y")).text == "false"
    index = (await api.get(api.key)).json[0]["ModifyIndex"]
    assert (await api.put(f"{api.key}?cas={index}", "y")).text == "true"
    assert (await api.put(f"{api.key}?cas={index}", "z")).text == "false"
    assert (await api.get(api.key + "?raw")).text == "y"


async def test_delete_answers_true_also_for_a_missing_key(api: Api) -> None:
    assert (await api.delete(api.key)).text == "true"
    await api.put(api.key, "x")
    assert (await api.delete(api.key)).text == "true"
    assert (await api.get(api.key)).status == 404


async def test_delete_with_cas_needs_the_index_that_was_read(api: Api) -> None:
    await api.put(api.key, "x")
    index = (await api.get(api.key)).json[0]["ModifyIndex"]
    assert (await api.delete(api.key + "?cas=0")).text == "false"
    assert (await api.delete(f"{api.key}?cas={index + 1}")).text == "false"
    assert (await api.delete(f"{api.key}?cas={index}")).text == "true"
    assert (await api.delete(f"{api.key}?cas={index}")).text == "true"


async def test_recurse_reads_and_deletes_all_keys_with_the_prefix_in_byte_order(api: Api) -> None:
    for key in ("/b", "/a/2", "/a/10", "/é", "/a", "x"):
        await api.put(api.key + key, "v")
    names = [pair["Key"].removeprefix(api.name) for pair in (await api.get(api.key + "/?recurse")).json]
    assert names == ["/a", "/a/10", "/a/2", "/b", "/é"]
    assert (await api.delete(api.key + "/a?recurse")).text == "true"
    names = [pair["Key"].removeprefix(api.name) for pair in (await api.get(api.key + "?recurse")).json]
    assert names == ["/b", "/é", "x"]


async def test_any_recurse_parameter_counts_also_false(api: Api) -> None:
    await api.put(api.key + "/a", "v")
    assert len((await api.get(api.key + "?recurse=false")).json) == 1


async def test_keys_lists_names_and_cuts_them_at_the_separator(api: Api) -> None:
    for key in ("", "/a/b", "/a/c", "/d"):
        await api.put(api.key + key, "v")
    name = api.name
    assert (await api.get(api.key + "?keys")).json == [name, f"{name}/a/b", f"{name}/a/c", f"{name}/d"]
    assert (await api.get(api.key + "?keys&separator=/")).json == [name, f"{name}/"]
    assert (await api.get(api.key + "/?keys&separator=/")).json == [f"{name}/a/", f"{name}/d"]


async def test_a_key_may_hold_spaces_and_escaped_slashes(api: Api) -> None:
    await api.put(api.key + "/sp%20ace%2Fslash/%C3%A9%25", "v")
    assert (await api.get(api.key + "?keys")).json == [f"{api.name}/sp ace/slash/é%"]


async def test_an_empty_segment_in_a_key_is_redirected_away_even_when_escaped(api: Api) -> None:
    answer = await api.put(api.key + "/%2Fx", "v")
    assert (answer.status, answer.headers["Location"]) == (301, f"{api.key}/x")


async def test_a_value_of_512_kib_is_stored_and_one_byte_more_is_413(api: Api) -> None:
    assert (await api.put(api.key, b"x" * 524_288)).text == "true"
    answer = await api.put(api.key, b"x" * 524_289)
    assert (answer.status, answer.text) == (
        413,
        "Request body(524289 bytes) too large, max size: 524288 bytes. "
        "See https://www.consul.io/docs/agent/options.html#kv_max_value_size.",
    )
    await api.delete(api.key)


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v1/kv/", 400, "Missing key name"),
        ("PUT", "/v1/kv/", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", 400, "Missing key name"),
        ("POST", "/v1/kv/x", 405, "method POST not allowed"),
        ("PUT", "/v1/kv/x?cas=abc", 500, 'strconv.ParseUint: parsing "abc": invalid syntax'),
        ("PUT", "/v1/kv/x?flags=abc", 500, 'strconv.ParseUint: parsing "abc": invalid syntax'),
        ("PUT", "/v1/kv/x?acquire=a&release=b", 400, "Conflicting flags: acquire=a&release=b"),
        ("PUT", "/v1/kv/x?cas=1&acquire=b", 400, "Conflicting flags: acquire=b&cas=1"),
        ("DELETE", "/v1/kv/x?cas=1&recurse", 400, "Conflicting flags: cas=1&recurse="),
        ("GET", "/v1/kv/x?dc=nope", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/x?dc=nope", 500, "No path to datacenter"),
        ("GET", "/v1/kv/x?index=abc", 400, "Invalid index"),
        ("GET", "/v1/kv/x?index=-1", 400, "Invalid index"),
        ("GET", "/v1/kv/x?index=1&wait=abc", 400, "Invalid wait time"),
        ("GET", "/v1/kv/x?index=1&wait=5", 400, "Invalid wait time"),
        (
            "GET",
            "/v1/kv/x?stale&consistent",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("PUT", "/v1/kv/x?acquire=", 500, "missing session"),
        (
            "PUT",
            "/v1/kv/x?acquire=zz",
            500,
            "failed session lookup: index error: UUID must be 36 characters",
        ),
        ("GET", "/v1/nope", 404, ""),
        ("PUT", "/v1/kv", 301, ""),
        ("GET", "/", 200, "Consul Agent"),
    ],
)
async def test_a_refusal_has_consuls_status_and_words(
    api: Api, method: str, path: str, status: int, text: str
) -> None:
    answer = await api.call(method, path, "body" if method == "PUT" else None)
    assert (answer.status, answer.text) == (status, text)


async def test_a_known_datacenter_a_token_and_any_consistency_are_accepted(api: Api) -> None:
    await api.put(api.key + "?dc=dc1", "v")
    for query in ("?dc=dc1", "?token=abc", "?stale", "?consistent", "?stale&max_stale=5s"):
        answer = await api.get(api.key + query, headers={"X-Consul-Token": "abc"})
        assert (answer.status, answer.json[0]["Key"]) == (200, api.name)
