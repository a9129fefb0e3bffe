"""go-getter's language of sources, and what is refused of it at submit."""

from contextlib import suppress

import pytest
from msgspec.structs import replace

from jobspec.artifacts import (
    BadSource,
    Kind,
    Source,
    artifact_faults,
    checksum_fault,
    reads_machine,
    source_of,
)
from model.job import Artifact

HTTP, GIT, FILE = Kind.HTTP, Kind.GIT, Kind.FILE
HEX = "0123456789abcdef" * 8

SOURCES: dict[str, Source] = {
    "https://host/file": Source(kind=HTTP, url="https://host/file"),
    "http://host/f.bin?a=1&a=%20x&sig=a%2Bb": Source(kind=HTTP, url="http://host/f.bin?a=1&a=%20x&sig=a%2Bb"),
    "http::https://host/file": Source(kind=HTTP, url="https://host/file"),
    "https://host/x?y=a::b": Source(kind=HTTP, url="https://host/x?y=a::b"),
    "https://host/a.zip": Source(kind=HTTP, url="https://host/a.zip", archive="zip"),
    "https://host/A.TAR.GZ": Source(kind=HTTP, url="https://host/A.TAR.GZ", archive="tar.gz"),
    "https://host/a.tgz//": Source(kind=HTTP, url="https://host/a.tgz", archive="tgz"),
    "https://host/a.tgz//in/./it?checksum=md5:" + HEX[:32]: Source(
        kind=HTTP, url="https://host/a.tgz", archive="tgz", subdirectory="in/it", checksum="md5:" + HEX[:32]
    ),
    "https://host/a.zip?archive=false": Source(kind=HTTP, url="https://host/a.zip"),
    "https://host/download?archive=tar.xz&v=2": Source(kind=HTTP, url="https://host/download?v=2", archive="tar.xz"),
    "https://host/x?filename=new%20name": Source(kind=HTTP, url="https://host/x", filename="new name"),
    "https://host/x?checksum=file:https://host/SUMS": Source(kind=HTTP, url="https://host/x", checksum="file:https://host/SUMS"),
    "github.com/hashicorp/go-set": Source(kind=GIT, url="https://github.com/hashicorp/go-set.git"),
    "github.com/o/r.git//sub?ref=v1": Source(kind=GIT, url="https://github.com/o/r.git", subdirectory="sub", ref="v1"),
    "gitlab.com/o/r/sub/dir": Source(kind=GIT, url="https://gitlab.com/o/r.git", subdirectory="sub/dir"),
    "bitbucket.org/o/r?depth=1": Source(kind=GIT, url="https://bitbucket.org/o/r.git", depth=1),
    "git::https://host/r.git?ref=main&depth=3": Source(kind=GIT, url="https://host/r.git", ref="main", depth=3),
    "git::http://host/r//below": Source(kind=GIT, url="http://host/r", subdirectory="below"),
    "git::ssh://me@host:2222/r.git?sshkey=a2V5": Source(kind=GIT, url="ssh://me@host:2222/r.git", ssh_key="a2V5"),
    "git@github.com:o/r.git": Source(kind=GIT, url="ssh://git@github.com/o/r.git"),
    "git::git@host:/srv/r.git//x?ref=a": Source(kind=GIT, url="ssh://git@host/srv/r.git", subdirectory="x", ref="a"),
    "git://host/r": Source(kind=GIT, url="git://host/r"),
    "/srv/files/a.tar": Source(kind=FILE, url="/srv/files/a.tar", archive="tar"),
    "file:///srv/a": Source(kind=FILE, url="/srv/a"),
    "file::/srv/tree//part": Source(kind=FILE, url="/srv/tree", subdirectory="part"),
    "https://hg.prosody.im/x/mod.lua": Source(kind=HTTP, url="https://hg.prosody.im/x/mod.lua"),
}

REFUSED = {
    "s3::https://s3.amazonaws.com/b/k": "S3 is not supported",
    "s3-eu-west-1.amazonaws.com/b/k": "a bucket of a cloud is not supported",
    "bucket.s3.amazonaws.com/k": "a bucket of a cloud is not supported",
    "s3://b/k": "S3 is not supported",
    "gcs::https://www.googleapis.com/storage/v1/b/k": "Google Cloud Storage is not supported",
    "www.googleapis.com/storage/v1/b/k": "a bucket of a cloud",
    "hg::http://host/r": "Mercurial is not supported",
    "smb://host/share": "SMB is not supported",
    "ftp://host/x": '"ftp://" is not supported',
    "svn::http://host/x": '"svn::" is no kind of source',
    "git::file:///srv/r": '"file://" is not supported',
    "git::/srv/r": "has to be written in full",
    "git::ext::sh -c id": "holds a space",
    "git::ext::sh": '"ext://" is not supported',
    "http::file:///etc/shadow": '"file://" is not supported',
    "https::/etc/shadow": "has to be written in full",
    "file::https://host/x": '"https://" is not supported',
    "file://host/x": "absolute path",
    "relative/file": "absolute path",
    "host": "absolute path",
    "https:///x": "names no host",
    "https://host/a b": "holds a space",
    "https://[host/x": "is no address",
    "https://host/a.rar": "does not unpack .rar",
    "https://host/a.tar.zst": "does not unpack .zst",
    "https://host/x?archive=7z": "no kind of archive",
    "https://host/x//../y": "leads out",
    "https://host/x?filename=a/b": "no name of a file",
    "https://host/x?filename=..": "no name of a file",
    "git::https://host/r?ref=--upload-pack=x": "no branch",
    "git::https://host/r?depth=all": "depth must be a number",
    "git::https://host/r?checksum=md5:" + HEX[:32]: "has no checksum",
    "https://host/x?checksum=file:///etc/shadow": "checksum: a file of checksums",
    "https://host/x?checksum=sha1:" + HEX[:32]: "a sha1 checksum has 40",
}


@pytest.mark.parametrize("text", SOURCES)
def test_a_source_is_read(text: str) -> None:
    assert source_of(f" {text}\n", {}) == SOURCES[text]
    assert not artifact_faults_of(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_drover_does_not_fetch_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadSource, match=REFUSED[text].replace("(", ".")):
        source_of(text, {})
    assert REFUSED[text] in artifact_faults_of(text)[0]


def artifact_faults_of(text: str) -> list[str]:
    return [str(fault) for fault in artifact_faults(Artifact(getter_source=text), "a")]


def test_options_count_as_written_into_the_address() -> None:
    options = {"checksum": HEX[:64], "archive": "zip", "filename": "f", "token": "a b", "x": "1&2"}
    assert source_of("https://host/x?v=1&archive=tar", options) == Source(
        kind=HTTP, url="https://host/x?v=1&token=a%20b&x=1%262", checksum=HEX[:64], archive="zip", filename="f"
    )


def test_neither_a_password_nor_a_signature_is_shown() -> None:
    source = source_of("https://me:hidden@host/x?sig=hidden", {})
    assert (source.shown, repr(source)) == ("https://host/x", "Source(http, https://host/x)")


CHECKSUMS = {
    "": True, "md5:" + HEX[:32]: True, "sha1:" + HEX[:40]: True, "sha256:" + HEX[:64]: True, "sha384:" + HEX[:96]: True,
    "sha512:" + HEX.upper(): True, HEX[:32]: True, HEX[:64]: True, "file:https://host/SUMS?x=1": True, "file:http://h/x": True,
    "file:/etc/x": False, "file:": False, "sha3:" + HEX[:64]: False, "sha256:" + HEX[:63]: False, HEX[:33]: False,
    "sha256:" + "g" * 64: False, "sha256:": False, "x": False,
}  # fmt: skip


@pytest.mark.parametrize("text", CHECKSUMS)
def test_a_checksum_is_judged(text: str) -> None:
    assert (checksum_fault(text) == "") is CHECKSUMS[text]


GOOD = Artifact(getter_source="https://host/${attr.cpu.arch}/a.${meta.ext}?v=${meta.v}&archive=zip")

FAULTS = {
    "none": (GOOD, []),
    "all of it is a reference": (replace(GOOD, getter_source="${meta.source}"), []),
    "no source": (replace(GOOD, getter_source=""), ["a: a source is needed"]),
    "options": (replace(GOOD, getter_options={"depth": "x"}), ['a.source: depth must be a number, found "x"']),
    "interpolated options": (replace(GOOD, getter_options={"depth": "${meta.x}", "checksum": "${meta.x}"}), []),
    "checksum": (replace(GOOD, getter_options={"checksum": "sha256:1"}), ["a.options.checksum: a sha256 checksum has 64 hexadecimal digits"]),
    "mode": (replace(GOOD, getter_mode="tree"), ['a.mode: must be any, file or dir, found "tree"']),
    "destination": (replace(GOOD, relative_dest="../../x"), ["a.destination: must not lead out of the allocation's directory"]),
    "other directories": (replace(GOOD, relative_dest="${NOMAD_SECRETS_DIR}/../../alloc/x"), []),
    "an absolute destination": (replace(GOOD, relative_dest="/local/x"), []),
    "an unknown kind": (replace(GOOD, getter_source="s3::${meta.x}"), ["a.source: S3 is not supported by drover yet (offer the file over https)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_known_to_be_wrong_is_told_at_submit(case: str) -> None:
    artifact, expected = FAULTS[case]
    assert [str(fault) for fault in artifact_faults(artifact, "a")] == expected


MACHINE = {
    "/etc/shadow": True, "file:///etc/shadow": True, "file::/etc/shadow": True, "FILE::/etc/shadow": True, " file:///x": True,
    "${meta.x}": True, "${meta.a}://x": True, "fi${meta.x}": True, "git${meta.x}": True, "file://${meta.x}": True, "/${meta.x}": True,
    "file::${meta.x}": True, "https://${meta.x}": False, "https:${meta.x}": False, "git::${meta.x}": False, "http::${meta.x}": False,
    "github.com/${meta.x}/r": False, "git@host:${meta.x}": False, "https://host/x": False, "relative/${meta.x}": False,
}  # fmt: skip


@pytest.mark.parametrize("text", MACHINE)
def test_what_reads_the_machine_or_might_is_told(text: str) -> None:
    assert reads_machine(Artifact(getter_source=text)) is MACHINE[text]


@pytest.mark.parametrize("text", [text for text, is_read in MACHINE.items() if not is_read])
@pytest.mark.parametrize("value", ["file:///etc/shadow", ":file:///etc/shadow", "/etc/shadow", "/../../etc/shadow", "le::/etc/shadow", "::/etc/shadow"])
def test_no_reference_makes_a_file_of_the_machine_of_what_was_none(text: str, value: str) -> None:
    with suppress(BadSource):
        assert source_of(text.replace("${meta.x}", value), {}).kind is not FILE
