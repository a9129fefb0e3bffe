"""`drover job init`: an example job file to begin with."""

import argparse
import os
from importlib.resources import files

from cli.failure import CommandFailed, fail

_FILE = "example.nomad.hcl"


def run(args: argparse.Namespace) -> int:
    name = args.file or _FILE
    example = files("configs") / "jobs" / ("example-short.hcl" if args.short else "example.hcl")
    try:
        # Never over a file that is there.
        with open(name, "x", encoding="utf-8") as file:
            file.write(example.read_text("utf-8"))
    except FileExistsError:
        return fail(CommandFailed(f"{name} exists already"))
    except OSError as error:
        return fail(CommandFailed(f"{name} cannot be written: {error.strerror or os.strerror(error.errno or 0)}"))
    print(f"Example job file written to {name}")
    return 0
