"""What a template looks up: which Read each call becomes, what it does with the answer, and with one that is not there yet."""

import pytest

from template import (
    Interface,
    Machine,
    MachineService,
    MachineWithServices,
    Missing,
    Open,
    Read,
    Secret,
    Snippet,
    TemplateFault,
    What,
    parse,
)
from tests.unit.template.answers import Held, instance, key, pair, passing


def said(text: str, answers: dict[Read, object] | None = None, **environment: str) -> str:
    return parse(text, name="t").render(lookups=Held(answers or {}, environment))


def missing(text: str, answers: dict[Read, object] | None = None) -> frozenset[Read]:
    with pytest.raises(Missing) as caught:
        said(text, answers)
    return caught.value.reads


def test_keys_are_shown_and_their_absence_is_waited_for() -> None:
    assert said('{{key "a/b"}}', {key("a/b"): pair("a/b", "v")}) == "v"
    assert missing('{{key "a/b"}}', {key("a/b"): None}) == {key("a/b")}
    assert said('{{keyOrDefault "a" "d"}} {{keyExists "a"}}', {key("a"): None}) == "d false"
    assert said('{{keyOrDefault "a" "d"}} {{keyExists "/a"}}', {key("a"): pair("a", "v")}) == "v true"
    assert said('{{with keyExistsGet "a"}}{{.Exists}}{{.Value}}{{end}}', {key("a"): None}) == "false"


def test_ls_lists_what_is_right_below_and_tree_all() -> None:
    read = Read(what=What.PAIRS, name="app")
    pairs = [pair(f"app/{name}", name.upper(), below="app") for name in ("", "a", "b", "c/", "c/d")]
    assert said('{{range ls "app"}}{{.Key}}={{.Value}} {{end}}', {read: pairs}) == "a=A b=B "
    assert said('{{range tree "app"}}{{.Key}}={{.Value}} {{end}}', {read: pairs}) == "a=A b=B c/d=C/D "
    assert said('{{tree "app" | explode | toJSON}}', {read: pairs}) == '{"a":"A","b":"B","c":{"d":"C/D"}}'
    assert said('{{range $k, $p := tree "app" | byKey}}{{$k}}:{{range $r, $_ := $p}}{{$r}}{{end}}{{end}}', {read: pairs}) == "c:d"


def test_services_have_their_fields() -> None:
    web = [instance("web", 1, tags=["a"], service_meta={"shard": "7"}, node_meta={"rack": "r1"}), instance("web", 2, tags=["a", "b"])]
    answers: dict[Read, object] = {passing("web"): web, Read(what=What.SERVICES): [Snippet(name="web", tags=["a", "b"])]}
    assert said('{{range service "web"}}{{.Node}} {{.Address}}:{{.Port}} {{.ID}} {{.Status}};{{end}}', answers) == (
        "n1 10.0.0.1:8001 web-1 passing;n2 10.0.0.2:8002 web-2 passing;"
    )
    assert said('{{with index (service "web") 0}}{{.ServiceMeta.shard}}{{.ServiceMeta.none}}{{.NodeMeta.rack}}{{end}}', answers) == "7r1"
    assert said('{{range service "web"}}{{.Tags.Contains "b"}} {{.Tags}} {{in .Tags "a"}};{{end}}', answers) == "false [a] true;true [a b] true;"
    assert said('{{range $t, $s := service "web" | byTag}}{{$t}}{{len $s}} {{end}}', answers) == "a2 b1 "
    assert said('{{range $m, $s := service "web" | byMeta "shard|int,x"}}{{$m}} {{end}}', answers) == "00000__no_x_ 00007__no_x_ "
    assert said("{{range services}}{{.Name}}{{.Tags | join `,`}}{{end}}", answers) == "weba,b"
    with pytest.raises(TemplateFault, match="can't evaluate field Addres in type \\*Instance"):
        said('{{range service "web"}}{{.Addres}}{{end}}', answers)


def test_nodes_and_datacenters() -> None:
    machine = Machine(id="1", node="n1", address="10.0.0.1", meta={"rack": "r"})
    with_services = MachineWithServices(node=machine, services=[MachineService(id="w", service="web", port=80)])
    answers: dict[Read, object] = {
        Read(what=What.NODES, datacenter="dc2"): [machine],
        Read(what=What.NODE, name="n1"): with_services,
        Read(what=What.DATACENTERS): ["dc1", "dc2"],
    }
    assert said('{{range nodes "@dc2"}}{{.Node}} {{.Address}} {{.Meta.rack}}{{end}}', answers) == "n1 10.0.0.1 r"
    assert said('{{with node "n1"}}{{.Node.Address}}{{range .Services}} {{.Service}}:{{.Port}}{{end}}{{end}}', answers) == "10.0.0.1 web:80"
    assert said("{{datacenters | join ` `}}", answers) == "dc1 dc2"


def test_secrets_are_maps() -> None:
    read = Read(what=What.SECRET, name="kv/data/app")
    secret = Secret(data={"data": {"password": "p"}, "metadata": {"version": 3}}, lease_id="l", lease_duration=60, renewable=True)
    answers: dict[Read, object] = {read: secret, Read(what=What.SECRETS, name="kv"): ["a", "b"]}
    assert said('{{with secret "kv/data/app"}}{{.Data.data.password}} {{.Data.metadata.version}} {{.LeaseDuration}}{{end}}', answers) == "p 3 60"
    assert said('{{(secret "kv/data/app").Data.data | toJSON}}{{range secrets "kv/"}}{{.}}{{end}}', answers) == '{"password":"p"}ab'
    with pytest.raises(TemplateFault, match="name=value"):
        said('{{secret "pki/issue/x" "ttl"}}', answers)


def test_the_environment_is_shown() -> None:
    text = '{{env "A"}}|{{env "B"}}|{{envOrDefault "B" "d"}}|{{envOrDefault "A" "d"}}|{{mustEnv "A"}}'
    assert said(text, A="a") == "a||d|a|a"
    with pytest.raises(TemplateFault, match="the variable B is not set"):
        said('{{mustEnv "B"}}')


FORMS = [
    ('service "web"', passing("web")),
    ('service "v2.web"', passing("web", tag="v2")),
    ('service "release-0.web@dc2~_agent"', passing("web", tag="release-0", datacenter="dc2", near="_agent")),
    ('service "web|any"', Read(what=What.SERVICE, name="web", states=("any",))),
    ('service "web" "passing,warning"', Read(what=What.SERVICE, name="web", states=("passing", "warning"))),
    ('service "web?ns=team&partition=p@dc2"', passing("web", datacenter="dc2", options=(("ns", "team"), ("partition", "p")))),
    ('services "@dc2"', Read(what=What.SERVICES, datacenter="dc2")),
    ('key "a/b@dc2"', Read(what=What.KEY, name="a/b", datacenter="dc2")),
    ('ls "a/b@dc2"', Read(what=What.PAIRS, name="a/b", datacenter="dc2")),
    ('tree "/a"', Read(what=What.PAIRS, name="a")),
    ('node "n.example@dc2"', Read(what=What.NODE, name="n.example", datacenter="dc2")),
    ("node", Read(what=What.NODE)),
    ('secret "pki/issue/x" "ttl=1h" "cn=a"', Read(what=What.SECRET, name="pki/issue/x", arguments=("ttl=1h", "cn=a"))),
    ('secrets "kv/"', Read(what=What.SECRETS, name="kv")),
    ('file "/etc/x"', Read(what=What.FILE, name="/etc/x")),
    ('sockaddr "GetPrivateIP"', Read(what=What.INTERFACES)),
]


@pytest.mark.parametrize(("call", "read"), FORMS, ids=[call for call, _ in FORMS])
def test_each_form_asks_for_one_thing_and_is_seen_without_rendering(call: str, read: Read) -> None:
    assert missing(f"{{{{{call}}}}}") == {read}
    assert parse(f"{{{{if false}}}}{{{{range {call}}}}}{{{{end}}}}{{{{end}}}}", name="t").reads().all == {read}


@pytest.mark.parametrize("call", ['service "a b"', 'service "web|ill"', 'key "a@b@c"', 'nodes "dc2"', 'service "web@"'])
def test_another_form_is_refused(call: str) -> None:
    text = f"{{{{{call}}}}}"
    with pytest.raises(TemplateFault):
        said(text)
    assert len(parse(text, name="t").reads().faults) == 1


def test_one_pass_finds_all_that_is_missing() -> None:
    text = """
    {{key "a"}} {{with secret "s"}}{{.Data.x}}{{key "in-s"}}{{end}} {{range service "web"}}{{.Address}}{{end}}
    {{key "n" | parseInt | add 1}} {{index (service "db") 0}} {{(secret "t").Data.y | toUpper}} {{if key "c"}}{{key "yes"}}{{else}}{{key "no"}}{{end}}
    """
    secrets = {Read(what=What.SECRET, name="s"), Read(what=What.SECRET, name="t")}
    assert missing(text) == {key("a"), key("n"), key("c"), passing("web"), passing("db"), *secrets}
    # What hangs on an answer shows when that is there.
    assert missing("{{if key `c`}}{{key `yes`}}{{else}}{{key `no`}}{{end}}", {key("c"): pair("c", "1")}) == {key("yes")}


def test_a_fault_that_comes_of_a_missing_answer_is_no_fault() -> None:
    assert missing('{{scratch.Set "x" (key "a")}}{{(scratch.Get "x").more}}{{parseInt (scratch.Get "x")}}') == {key("a")}


def test_reads_are_told_without_rendering() -> None:
    text = """
    {{$path := printf "secret/%s/db" "team"}}{{with secret $path}}{{.Data.x}}{{end}}
    {{$open := env "X"}}{{secret $open}} {{range services}}{{range service .Name}}{{end}}{{end}}
    {{define "other"}}{{key "k"}}{{end}} {{"piped" | key}} {{keyOrDefault "d" (env "Y")}} {{file "f"}} {{ls "dir"}}
    {{$twice := "a"}}{{$twice = "b"}}{{key $twice}} {{nomadVar "nomad/jobs/x"}} {{print "a" | key}}
    """
    reads = parse(text, name="t").reads()
    assert (reads.secrets, reads.services, reads.keys) == ({"secret/team/db"}, set(), {"k", "piped", "d", "dir", "a"})
    assert (reads.env, reads.files, reads.needs_vault) == ({"X", "Y"}, {"f"}, True)
    assert reads.open == (
        Open(function="secret", line=3, column=27),
        Open(function="service", line=3, column=68),
        Open(function="key", line=5, column=40),
    )
    assert [str(fault) for fault in reads.faults] == [
        "t:5:55: <nomadVar>: nomadVar: drover has no variables of its own: use key (Consul's KV) or secret (Vault)"
    ]


def test_what_is_refused_is_refused_by_name_and_may_be_supplied() -> None:
    for name in ("nomadVar", "nomadService", "plugin", "writeToFile", "executeTemplate", "spew_dump", "caLeaf", "sprig_uuidv4"):
        with pytest.raises(TemplateFault, match=f"error calling {name}: .+"):
            said(f'{{{{{name} "x"}}}}')
    template = parse('{{define "a"}}<{{.}}>{{end}}{{executeTemplate "a" 1 | toUpper}}{{plugin "x"}}', name="t")

    def plugin(command: str) -> str:
        return f"ran {command}"

    assert template.render(allowed=frozenset({"executeTemplate"}), extra={"plugin": plugin}) == "<1>ran x"
    assert template.reads(allowed=frozenset({"executeTemplate", "plugin"})).faults == ()


INTERFACES = [
    Interface(name="lo", network="127.0.0.1/8", flags=("up", "loopback")),
    Interface(name="eth0", network="192.168.50.4/24", flags=("up",), is_default=True),
    Interface(name="eth1", network="10.1.2.3/16", flags=("up",)),
    Interface(name="eth2", network="8.8.4.4/24", flags=("up",)),
    Interface(name="eth0", network="fe80::1/64", flags=("up",)),
]
ADDRESSES = [
    ("GetPrivateIP", "192.168.50.4"),
    ("GetPrivateIPs", "192.168.50.4 10.1.2.3"),
    ("GetPublicIP", "8.8.4.4"),
    ('GetInterfaceIP "eth1"', "10.1.2.3"),
    ('GetPrivateInterfaces | include "network" "10.0.0.0/8" | attr "name"', "eth1"),
    ('GetPrivateInterfaces | exclude "name" "eth0" | attr "address"', "10.1.2.3"),
    ('GetAllInterfaces | include "flags" "loopback" | attr "address"', "127.0.0.1"),
    ('GetPrivateInterfaces | include "rfc" "1918" | sort "address" | limit 1 | join "address" " "', "10.1.2.3"),
    ('GetDefaultInterfaces | include "type" "ipv4" | attr "network"', "192.168.50.0/24"),
    ('GetAllInterfaces | include "name" "nothing" | attr "address"', ""),
]


@pytest.mark.parametrize(("pipeline", "address"), ADDRESSES, ids=[pipeline for pipeline, _ in ADDRESSES])
def test_sockaddr_names_the_machines_addresses(pipeline: str, address: str) -> None:
    assert said(f"{{{{sockaddr `{pipeline}`}}}}", {Read(what=What.INTERFACES): INTERFACES}) == address


@pytest.mark.parametrize("pipeline", ["GetNothing", "GetPrivateIP | attr 1", 'GetAllInterfaces | include "rfc" "1"', 'env "HOME"', "GetInterfaceIP 5"])
def test_sockaddr_refuses_what_it_does_not_know(pipeline: str) -> None:
    with pytest.raises(TemplateFault, match="error calling sockaddr"):
        said(f"{{{{sockaddr `{pipeline}`}}}}", {Read(what=What.INTERFACES): INTERFACES})
