# Several sites over lines that break for minutes: nothing moves within five minutes, and heartbeats are few.
server {
  heartbeat_grace           = "300s"
  min_heartbeat_ttl         = "30s"
  max_heartbeats_per_second = 10
}
