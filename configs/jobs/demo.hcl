# Three instances of a small web service, restarted when their health check fails.
#
#   drover job run demo.hcl
#   touch <alloc dir>/web/local/fail      the service answers 500 from now on; after three failed checks it is restarted
#
# The file is removed when the service starts, so that a restart heals it.

job "demo" {
  datacenters = ["dc1"]
  type        = "service"

  update {
    max_parallel     = 1
    min_healthy_time = "2s"
    healthy_deadline = "1m"
  }

  group "web" {
    count = 3

    network {
      port "http" {}
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "0s"
      mode     = "delay"
    }

    service {
      name = "demo-web"
      port = "http"
      tags = ["demo", "instance-${NOMAD_ALLOC_INDEX}"]

      check {
        name     = "alive"
        type     = "http"
        path     = "/"
        interval = "1s"
        timeout  = "1s"

        check_restart {
          limit = 3
          grace = "2s"
        }
      }
    }

    task "web" {
      driver       = "raw_exec"
      kill_timeout = "2s"

      config {
        command = "python3"
        args    = ["-u", "-c", <<-EOF
          import os
          from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

          FAIL = os.path.join(os.environ["NOMAD_TASK_DIR"], "fail")
          NAME = os.environ["NOMAD_ALLOC_NAME"]

          class Handler(BaseHTTPRequestHandler):
              def do_GET(self):
                  failing = os.path.exists(FAIL)
                  body = f"{'failing' if failing else 'hello'} from {NAME}\n".encode()
                  self.send_response(500 if failing else 200)
                  self.send_header("Content-Type", "text/plain")
                  self.send_header("Content-Length", str(len(body)))
                  self.end_headers()
                  self.wfile.write(body)

          if os.path.exists(FAIL):
              os.remove(FAIL)
          print(f"{NAME} listens on {os.environ['NOMAD_PORT_http']}")
          ThreadingHTTPServer(("", int(os.environ["NOMAD_PORT_http"])), Handler).serve_forever()
          EOF
        ]
      }

      resources {
        cpu    = 50
        memory = 32
      }

      logs {
        max_files     = 2
        max_file_size = 5
      }
    }
  }
}
