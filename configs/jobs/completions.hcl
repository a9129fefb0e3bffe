# A fixed number of runs, some at a time, each with an index of its own.
# `drover job status completions` tells how far it is; `drover job scale completions 8` hurries it.

variable "items" {
  type        = number
  default     = 20
  description = "How many runs have to succeed."
}

job "completions" {
  datacenters = ["dc1"]
  type        = "batch"

  group "item" {
    count = 4 # the parallelism

    # drover's own; Nomad's meaning of a batch job stays where it is left out.
    completion {
      completions     = var.items    # left out: a work queue, done when one has succeeded and all have ended
      indexed         = true         # each run has its own DROVER_COMPLETION_INDEX, 0 to items - 1
      restart_policy  = "on_failure" # in place; "never": each retry is a new allocation
      backoff_limit   = 6            # at the seventh failed run the group has failed
      backoff_base    = "10s"        # then 20s, 40s ... up to
      backoff_max     = "6m"
      active_deadline = "1h" # for all of it

      # The finished job is kept for looking at; with this it goes by itself.
      # ttl_after_finished = "24h"
    }

    task "work" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo item $DROVER_COMPLETION_INDEX of ${var.items}; sleep 1"]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
