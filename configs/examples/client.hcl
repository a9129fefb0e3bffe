# A machine that only runs tasks.

data_dir   = "/var/lib/drover"
datacenter = "dc1"

client {
  enabled           = true
  network_interface = "eth0"
  max_kill_timeout  = "1m"

  meta {
    rack = "r2"
  }

  # Directories, addresses and whole cores that jobs may ask for by name or number.
  # host_volume "data" {
  #   path = "/srv/data"
  # }
  # host_network "public" {
  #   cidr           = "203.0.113.0/24"
  #   reserved_ports = "22,80"
  # }
  # reserved {
  #   cores = "0"
  # }
}

consul {
  address = "127.0.0.1:8500"

  # Or in the environment: CONSUL_HTTP_TOKEN.
  # token_file = "/etc/drover/consul.token"
}

plugin "docker" {
  config {
    volumes {
      enabled = true
    }
  }
}
