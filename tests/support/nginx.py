"""nginx in front of the service, with the configuration that docs/operations.md shows."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from tests.support.debian import needed
from tests.support.raw_http import connected
from tests.support.servers import ROOT, free_port
from tests.support.waiting import wait_for

AROUND = """
daemon off;
pid {folder}/pid;
error_log {folder}/log;
{user}
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{block}
}}
"""


def documented(service_url: str, port: int) -> str:
    """The block of docs/operations.md, with this service and port, and without TLS."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL | re.MULTILINE)
    for pattern, replacement in [
        (r"server 127\.0\.0\.1:4000;", f"server {urlsplit(service_url).netloc};"),
        (r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
        (r"ssl_certificate(_key)? .*;", ""),
    ]:
        block, count = re.subn(pattern, replacement, block)
        assert count, pattern
    return block


@contextmanager
def nginx(service_url: str) -> Iterator[str]:
    """Run it in front of the service at this URL; yields its own URL."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
    program = needed(lambda: shutil.which("nginx", path=path), "nginx", "nginx-light")
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def listens() -> bool:
        assert process.poll() is None, (Path(folder) / "log").read_text()
        try:
            with connected(url):
                return True
        except OSError:
            return False

    with TemporaryDirectory(prefix="lastpair-test-") as folder:
        user = "user root;" if os.geteuid() == 0 else ""  # the default user may not read the folder
        settings = Path(folder) / "nginx.conf"
        settings.write_text(AROUND.format(folder=folder, user=user, block=documented(service_url, port)))
        process = subprocess.Popen([program, "-e", f"{folder}/log", "-p", folder, "-c", settings])
        try:
            wait_for(listens)
            yield url
        finally:
            process.terminate()
            process.wait()
