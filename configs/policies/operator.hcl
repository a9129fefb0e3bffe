# People who run the cluster: every job, every node, and the cluster as a whole.

key_prefix "drover/jobs/"       { policy = "write" }
key_prefix "drover/exec/"       { policy = "write" }
key_prefix "drover/privileged/" { policy = "write" }

service_prefix "" { policy = "write" }
node_prefix ""    { policy = "write" }
agent_prefix ""   { policy = "write" }
operator = "write"
