# A job: what should run, how many times and where.
# Check it with `drover job validate`, submit it with `drover job run`, look at it with `drover job status example`.

job "example" {
  # Datacenters of Consul, or virtual ones, that the job may use. "*" means all that are not virtual.
  datacenters = ["dc1"]

  # service: runs for ever. batch: runs until it succeeds. system: one on every node. sysbatch: once on every node.
  type = "service"

  # Only nodes of which this is true get the job. `drover node status -verbose NODE` lists the attributes.
  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # How a changed job replaces what runs.
  update {
    max_parallel     = 1     # so many at a time
    min_healthy_time = "10s" # checks must pass this long
    healthy_deadline = "3m"
  }

  # A group's tasks run on one node together.
  group "cache" {
    count = 1

    # Ports of the node: without `static` a free one is chosen. `to`: the port inside of the container.
    network {
      port "db" {
        to = 6379
      }
    }

    # Registered in Consul: found as example-cache.service.consul.
    service {
      name = "example-cache"
      port = "db"
      tags = ["cache"]

      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"

        # Restarts the task when the check failed three times in a row, though not in its first 30 seconds.
        check_restart {
          limit = 3
          grace = "30s"
        }
      }
    }

    # What happens when a task ends with an error: twice in half an hour it is started again where it is, ...
    restart {
      attempts = 2
      interval = "30m"
      delay    = "15s"
      mode     = "fail"
    }

    # ... then on another node, each time after a longer wait.
    reschedule {
      delay          = "30s"
      delay_function = "exponential"
      max_delay      = "1h"
      unlimited      = true
    }

    task "redis" {
      # docker, or raw_exec for a plain process.
      driver = "docker"

      config {
        image = "redis:7"
        ports = ["db"]
      }

      env {
        EXAMPLE = "${NOMAD_ALLOC_ID}"
      }

      # Kept: so many files of so many MB for each of stdout and stderr.
      logs {
        max_files     = 10
        max_file_size = 10
      }

      # MHz and MB. The memory is a limit.
      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
