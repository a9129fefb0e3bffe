# A job that runs each night. Consul's service `drover-periodic-backup` tells whether it does.

job "backup" {
  datacenters = ["dc1"]
  type        = "batch"

  periodic {
    crons            = ["30 2 * * *"]
    time_zone        = "Europe/Berlin"
    prohibit_overlap = true

    # drover's own: -nomad-strict refuses them.
    starting_deadline = "30m"
    missed_run        = "once"
    expect_within     = "2h"

    history {
      successful = 3
      failed     = 1
    }
  }

  group "work" {
    task "backup" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"backup of $(date)\""]
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
