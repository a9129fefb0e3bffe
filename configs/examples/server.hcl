# A machine that only leads or stands by. Run an odd number of them; one leads at a time.

data_dir   = "/var/lib/drover"
datacenter = "dc1"

server {
  enabled = true

  # A node unheard for so long has its work moved elsewhere.
  heartbeat_grace  = "10s"
  agent_down_after = "5m"

  # Moves one allocation so often to where it would be placed today; left out, only `drover rebalance` does.
  # rebalance_interval = "10m"
}

consul {
  address = "127.0.0.1:8500"

  # Or in the environment: CONSUL_HTTP_TOKEN.
  # token_file = "/etc/drover/consul.token"
}
