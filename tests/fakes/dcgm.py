"""An exporter of GPU metrics with DCGM's names and labels, for a node whose GPUs are not there: eight of them, busy."""

import http.server
import os
import socket
import sys
import time

FIELDS = {
    "DCGM_FI_DEV_GPU_UTIL": ("GPU utilization (in %).", lambda gpu: 10 * gpu + time.time() % 5),
    "DCGM_FI_DEV_POWER_USAGE": ("Power draw (in W).", lambda gpu: 300.0 + gpu + time.time() % 5),
    "DCGM_FI_DEV_FB_USED": ("Framebuffer memory used (in MiB).", lambda gpu: 1024.0 * (gpu + 1)),
}


def text() -> str:
    host, lines = socket.gethostname(), []
    for name, (words, value) in FIELDS.items():
        lines += [f"# HELP {name} {words}", f"# TYPE {name} gauge"]
        for gpu in map(int, os.environ["CUDA_VISIBLE_DEVICES"].split(",")):
            labels = (
                f'gpu="{gpu}",UUID="GPU-{host}-{gpu}",device="nvidia{gpu}",modelName="FAKE",Hostname="{host}"'
            )
            lines.append(f"{name}{{{labels}}} {value(gpu)}")
    return "\n".join([*lines, ""])


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
