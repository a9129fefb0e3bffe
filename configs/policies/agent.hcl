# One drover agent (a node): what it may write is its own. NODE_ID is drover's id of the node, which is in
# DATA_DIR/node-id; where there is none yet, `uuidgen > DATA_DIR/node-id` before the first start makes one.
#
#   sed "s/NODE_ID/$(cat /var/lib/drover/node-id)/" agent.hcl | consul acl policy create -name drover-agent-NODE_ID -rules -
#   consul acl token create -policy-name drover-agent-NODE_ID
#
# It cannot write what is desired, jobs or versions: with it alone nothing is brought onto any node, this one included.

key_prefix "drover/state/observed/NODE_ID/" { policy = "write" }
key "drover/state/nodes/NODE_ID"            { policy = "write" }
key "drover/state/inbox/NODE_ID"            { policy = "write" }

key_prefix "drover/state/desired/NODE_ID/" { policy = "read" }
key_prefix "drover/state/versions/"        { policy = "read" }
key "drover/state/control/NODE_ID"         { policy = "read" }
key "drover/state/leader"                  { policy = "read" }

# The services of its tasks, and its own (drover-agent). Where the names are known, list them in place of this.
service_prefix "" { policy = "write" }

# What templates of its tasks read: all services and nodes (with the rules above and below), and the keys that are listed here.
# Whoever may submit a job can read them, for the agent asks with its own token: keep what is secret in Vault.
# key_prefix "config/" { policy = "read" }

# Its checks on the local Consul agent, and what that says of itself.
node_prefix ""  { policy = "read" }
agent_prefix "" { policy = "read" }
