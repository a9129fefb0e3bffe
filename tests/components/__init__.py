"""Which real components do the tests run against, and how do they get onto this machine?

consul.py fetches and runs Consul, docker.py starts a Docker Engine and builds the test image.
`python -m tests.components` prepares all of them once, so that no test waits for a download.
"""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

# Everything fetched or built for tests lives here; git ignores it.
TOOLS = REPO / ".tools"


class ComponentMissing(Exception):
    """A real component cannot be had on this machine; the message says what to do about it."""
