# Who submits jobs, people or a pipeline: all jobs of one namespace, and services of one's own names. A job id is one
# segment of the path: `team/web` is drover/jobs/default/team%2Fweb.
# Left out on purpose: raw_exec and containers with a way out (drover/privileged/…), and exec (drover/exec/…).

key_prefix "drover/jobs/default/" { policy = "write" }

# The names that its jobs may register: one rule for each, or a prefix. Without it a job could take another's name.
service_prefix "web" { policy = "write" }

# To find an allocation's node, and to see why nothing of a job is placed.
node_prefix ""  { policy = "read" }
agent_prefix "" { policy = "read" }
