# One machine that is both: it may be elected to lead, and it runs tasks.
#   drover agent -config agent.hcl

data_dir   = "/var/lib/drover"
datacenter = "dc1"
log_level  = "INFO"

server {
  enabled = true
}

client {
  enabled    = true
  node_class = "general"

  meta {
    rack = "r1"
  }

  # What the machine keeps for itself.
  reserved {
    cpu            = 200
    memory         = 256
    reserved_ports = "22,80,443,8300-8302,8500-8600"
  }
}

# The Consul agent on this machine; its token is better kept in CONSUL_HTTP_TOKEN or a token_file.
consul {
  address = "127.0.0.1:8500"
}

# Secrets for tasks; docs/vault.md has the ways to drover's own token, `drover vault check` says what is missing.
# vault {
#   enabled          = true
#   address          = "https://vault.example:8200"
#   ca_file          = "/etc/drover.d/vault-ca.pem"
#   role_id          = "…"
#   secret_id_file   = "/etc/drover.d/vault-secret-id"
#   create_from_role = "drover-tasks"
# }

# Whose calls are served where Consul has no ACLs; with ACLs on, Consul says it (docs/security.md).
# acl {
#   open_to = ["10.0.0.0/8"]
# }

# tls {
#   http      = true
#   ca_file   = "/etc/drover.d/ca.pem"
#   cert_file = "/etc/drover.d/agent.pem"
#   key_file  = "/etc/drover.d/agent-key.pem"
# }

# raw_exec runs tasks without isolation, as the agent's user: off unless asked for.
plugin "raw_exec" {
  config {
    enabled = true
  }
}

plugin "docker" {
  config {
    allow_privileged = false

    volumes {
      enabled = true
    }
  }
}
