# A job that is started by hand or by a program, once for each set of parameters:
#   drover job dispatch -meta customer=acme invoice order.json

job "invoice" {
  datacenters = ["dc1"]
  type        = "batch"

  parameterized {
    payload       = "required"
    meta_required = ["customer"]

    # drover's own: -nomad-strict refuses it. What comes beyond waits in order.
    max_running = 5
  }

  group "work" {
    task "invoice" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"for $NOMAD_META_customer:\"; cat \"$NOMAD_TASK_DIR/order.json\""]
      }

      dispatch_payload {
        file = "order.json"
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
