# What holds without a profile: one site, a sound network. Work of a machine that is silent for 10 s moves.
server {
  heartbeat_grace           = "10s"
  min_heartbeat_ttl         = "10s"
  max_heartbeats_per_second = 50
}
