# A machine that only leads or stands by. Run an odd number of them; one leads at a time.

data_dir   = "/var/lib/drover"
datacenter = "dc1"

server {
  enabled = true

  # A node unheard for so long has its work moved elsewhere.
  heartbeat_grace  = "10s"
  agent_down_after = "5m"

  # When so many nodes fall silent at once, none of them is held lost until they are heard or `drover brake release`.
  brake {
    cluster_percent       = 50    # of all nodes
    datacenter_percent    = 55    # of one datacenter's, unless all of it is gone while others are heard
    hold                  = "10s" # after a new leader and after an outage of Consul nobody is held lost
    lost_nodes_per_second = 0.1   # so many in the long run, 3 in a row
  }

  # Moves one allocation so often to where it would be placed today; left out, only `drover rebalance` does.
  # rebalance_interval = "10m"
}

consul {
  address = "127.0.0.1:8500"

  # Or in the environment: CONSUL_HTTP_TOKEN.
  # token_file = "/etc/drover/consul.token"
}
