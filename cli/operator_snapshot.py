"""`drover operator snapshot save`, `inspect` and `restore`."""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

from catalog.saved import Saved, SnapshotFault, read
from cli.client import Api, fields, size
from cli.failure import CommandFailed, fail


def save(args: argparse.Namespace) -> int:
    """The file is there only once it is whole and was read again; nobody else may read it."""
    target = Path(args.file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    except OSError as error:
        return fail(CommandFailed(f"{target}: {error.strerror}"))
    whole = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in Api(args).stream("/v1/operator/snapshot"):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        saved = read(whole)
        whole.replace(target)
    except SnapshotFault as error:
        return fail(CommandFailed(f"the leader's answer is no whole snapshot: {str(error).partition(': ')[2]}"))
    except CommandFailed as error:
        return fail(error)
    except OSError as error:
        return fail(CommandFailed(f"{target}: {error.strerror}"))
    finally:
        whole.unlink(missing_ok=True)
    print(f"State saved to {target}: {len(saved.entries)} keys at Consul's index {saved.head.index}")
    return 0


def inspect(args: argparse.Namespace) -> int:
    try:
        saved = read(Path(args.file))
    except SnapshotFault as error:
        return fail(CommandFailed(str(error)))
    print(
        fields(
            [
                ("Format", f"{saved.head.format} {saved.head.version}"),
                ("Created", saved.head.created_at),
                ("Root", saved.head.root),
                ("Consul's index", saved.head.index),
                ("Keys", len(saved.entries)),
                ("Size of the values", size(sum(len(entry.raw or b"") for entry in saved.entries))),
            ]
        )
    )
    for kind, count in sorted(_kinds(saved).items()):
        print(f"  {kind.ljust(14)} {count}")
    return 0


def _kinds(saved: Saved) -> Counter[str]:
    """{what stands right below the state: keys}."""
    below = f"{saved.head.root}/state/"
    return Counter(entry.key.removeprefix(below).partition("/")[0] for entry in saved.entries)


def restore(args: argparse.Namespace) -> int:
    try:
        path = Path(args.file)
        saved = read(path)
        holder = Api(args).get("/v1/operator/lock")["Leader"]
        if holder is None:
            raise CommandFailed("nobody leads: a snapshot is restored through the leader")
        scheme = "https" if holder.get("TLSEnabled") else "http"
        # Straight to the leader: what passes a call on takes no body of this size.
        leader = Api(argparse.Namespace(**{**vars(args), "address": f"{scheme}://{holder['HTTPAddr']}"}))
        done = leader.upload("/v1/operator/snapshot", path.read_bytes(), force=args.force or None)
    except (SnapshotFault, CommandFailed) as error:
        return fail(CommandFailed(str(error)))
    print(f"Restored {done['Keys']} of {len(saved.entries)} keys; the others are of today's cluster, or nobody's")
    return 0
