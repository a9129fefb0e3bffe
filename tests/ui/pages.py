"""Every page there is, by a name for its picture."""


def pages(jobs: dict[str, str], node_id: str) -> dict[str, str]:
    """{name: address below /ui/}. jobs: see conftest.jobs."""
    web, crash = jobs["web"], jobs["crash"]
    return {
        "overview": "",
        "jobs": "jobs",
        "job": "job/default/web",
        "job-why": "job/default/toobig",
        "job-allocations": "job/default/web/allocations",
        "job-deployments": "job/default/web/deployments",
        "job-checks": "job/default/web/checks",
        "job-versions": "job/default/web/versions",
        "job-evaluations": "job/default/toobig/evaluations",
        "job-definition": "job/default/web/definition",
        "job-periodic": "job/default/nightly",
        "run": "run?namespace=default&job=web",
        "allocations": "allocations",
        "alloc": f"alloc/{web}",
        "alloc-failed": f"alloc/{crash}",
        "logs": f"alloc/{crash}/logs",
        "files": f"alloc/{web}/files",
        "terminal": f"alloc/{web}/exec",
        "nodes": "nodes",
        "node": f"node/{node_id}",
        "attributes": f"node/{node_id}/attributes",
        "topology": "topology",
        "services": "services",
        "service": "services/default/web/web",
        "login": "login",
    }
