# A candidate for leader (server { enabled = true }). One that runs tasks as well has agent.hcl too, in the same token.
# It writes what callers of the API may ask for; whether they may, it asks Consul with their tokens.

key_prefix "drover/state/" { policy = "write" }

# In Consul the longer rule wins, whichever policy it is of: beside agent.hcl these say it again. NODE_ID as there.
key_prefix "drover/state/versions/"        { policy = "write" }
key_prefix "drover/state/desired/NODE_ID/" { policy = "write" }
key "drover/state/control/NODE_ID"         { policy = "write" }
key "drover/state/leader"                  { policy = "write" }

# Its lock hangs on a session of its machine; `drover operator break-lock` ends another's.
session_prefix "" { policy = "write" }

service "drover-server" { policy = "write" }

# How periodic jobs do: services on a node of the catalog that has no agent. With another root of keys than "drover" the
# node is named after that: see docs/design/017-periodic-and-dispatch.md.
service_prefix "drover-periodic-" { policy = "write" }
node "drover-periodic"            { policy = "write" }

# Who is alive, what is healthy, what Consul says of itself.
service_prefix "" { policy = "read" }
node_prefix ""    { policy = "read" }
agent_prefix ""   { policy = "read" }
