# Who looks: dashboards, people on call, exporters. Sees every job, what users wrote into it included, and no snapshot.

key_prefix "drover/jobs/" { policy = "read" }

node_prefix ""  { policy = "read" }
agent_prefix "" { policy = "read" }
operator = "read"
