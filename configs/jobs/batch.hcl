# A batch job: it runs to its end, and is tried again when it fails.

variable "seconds" {
  type        = number
  default     = 5
  description = "How long the work takes."
}

job "batch" {
  datacenters = ["dc1"]
  type        = "batch"

  group "work" {
    count = 2

    restart {
      attempts = 2
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }

    task "count" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "i=0; while [ $i -lt ${var.seconds} ]; do i=$((i+1)); echo \"$NOMAD_ALLOC_NAME: $i\"; sleep 1; done"]
      }

      resources {
        cpu    = 50
        memory = 16
      }
    }
  }
}
