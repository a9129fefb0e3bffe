"""`drover operator api` and `drover operator metrics`: an agent's API as it is."""

import argparse
import sys
from urllib.parse import parse_qsl

from cli.client import Api
from cli.failure import CommandFailed, fail


def call(args: argparse.Namespace) -> int:
    """Prints what is answered, errors included; 0 whenever there was an answer, as with Nomad."""
    try:
        path, _, query = args.path.partition("?")
        data = _data(args)
        params: dict[str, object] = dict(parse_qsl(query, keep_blank_values=True))
        if args.filter:
            params["filter"] = args.filter
        headers = {}
        for line in args.H:
            name, colon, value = line.partition(":")
            if not colon:
                raise CommandFailed(f"-H {line!r}: expected NAME: VALUE")
            headers[name.strip()] = value.strip()
        method = args.X or ("PUT" if data is not None else "GET")
        path = path if path.startswith("/") else f"/{path}"
        if args.dryrun:
            sys.stdout.write(api_line(Api(args), method, path, params))
            return 0
        response = Api(args).raw(method, path, data, params, headers)
        if args.verbose:
            sys.stderr.write(f"> {method} {path}\n< {response.status} {response.reason}\n")
            sys.stderr.writelines(f"< {name}: {value}\n" for name, value in response.getheaders())
        while piece := response.read1(65536):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        if sys.stdout.isatty():
            print()
        return 0
    except CommandFailed as error:
        return fail(error)


def api_line(api: Api, method: str, path: str, params: dict[str, object]) -> str:
    """The call as a command line for curl, without the token."""
    from urllib.parse import urlencode

    query = f"?{urlencode({name: str(value) for name, value in params.items()})}" if params else ""
    return f"curl -X {method} '{api.address}{path}{query}'\n"


def _data(args: argparse.Namespace) -> bytes | None:
    """What is sent: the argument, `@file`, or with `-` what comes on standard input."""
    if args.data is None:
        return None
    if args.data == "-":
        return sys.stdin.buffer.read()
    if not args.data.startswith("@"):
        return str(args.data).encode()
    try:
        with open(args.data[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise CommandFailed(f"{args.data[1:]} cannot be read: {error.strerror}") from error


def metrics(args: argparse.Namespace) -> int:
    try:
        params: dict[str, object] = {} if args.format == "json" else {"format": args.format}
        if args.pretty:
            params["pretty"] = "1"
        response = Api(args).raw("GET", "/v1/metrics", None, params, {})
        text = response.read().decode("utf-8", "replace")
        if response.status >= 400:
            raise CommandFailed(f"Error getting metrics: {text}")
        print(text)
        return 0
    except CommandFailed as error:
        return fail(error)
