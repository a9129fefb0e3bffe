# One site, machines that are sometimes starved (builds, backups): a machine may be silent for a minute.
server {
  heartbeat_grace           = "60s"
  min_heartbeat_ttl         = "10s"
  max_heartbeats_per_second = 50
}
