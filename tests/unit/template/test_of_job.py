"""The templates of a job are read when it is submitted: all faults, by block and place."""

from model.errors import Fault
from model.job import Job, JobId, Task, TaskGroup, Template
from template.of_job import template_faults


def test_every_fault_of_every_template_is_told_by_its_place() -> None:
    texts = (
        "fine {{ key \"a\" }}",
        "one\ntwo {{ nope }}",
        '{{ if true }}{{ nomadVar "x" }}{{ end }}\n  {{ plugin "y" }}',
        "{{ range }}",
        "[[ nope ]] {{ key \"a\" }}",
    )
    blocks = [Template(embedded_tmpl=text, dest_path="local/x") for text in texts]
    blocks.append(Template(embedded_tmpl="[[ nope ]]", left_delim="[[", right_delim="]]"))
    blocks.append(Template(source_path="local/none"))
    job = Job(id=JobId("web"), name="web", task_groups=(TaskGroup(name="g", tasks=(Task(name="t", driver="raw_exec", templates=tuple(blocks)),)),))
    found = template_faults(job)
    places = [(fault.path, fault.message.partition(": ")[0]) for fault in found]
    where = "job.web.group.g.task.t.template"
    assert places == [
        (f"{where}[1].data", "line 2, column 8"),
        (f"{where}[2].data", "line 1, column 17"),
        (f"{where}[2].data", "line 2, column 6"),
        (f"{where}[3].data", "line 1, column 10"),
        (f"{where}[5].data", "line 1, column 4"),
    ]
    assert found[1] == Fault(
        path=f"{where}[2].data",
        message="line 1, column 17: <nomadVar>: nomadVar: drover has no variables of its own: use key (Consul's KV) or secret (Vault)",
    )
    assert all("\n" not in fault.message for fault in found)
