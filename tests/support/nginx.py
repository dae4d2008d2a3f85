"""nginx with the configuration that docs/operations.md shows."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.debian import needed
from tests.support.servers import ROOT, free_port
from tests.support.waiting import wait_for

MAIN = """
daemon off;
pid {folder}/pid;
error_log {folder}/log;
{user}
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
{documented}
}}
"""


def find_nginx() -> str:
    """The path of nginx."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
    return needed(lambda: shutil.which("nginx", path=path), "nginx", "nginx-light")


def documented(port: int, service_port: int) -> str:
    """The configuration of docs/operations.md, without TLS, from this port to the service's."""
    [block] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    block = re.sub(r"^ *(ssl_\w+|http2) .*\n", "", block, flags=re.MULTILINE)
    block, count = re.subn(r"listen 443 ssl[^;]*;", f"listen 127.0.0.1:{port};", block)
    assert count == 1
    return block.replace("127.0.0.1:4000", f"127.0.0.1:{service_port}")


@contextmanager
def nginx(service_port: int) -> Iterator[str]:
    """Run nginx in front of a service at this port; yields nginx's URL."""
    program, port = find_nginx(), free_port()
    with TemporaryDirectory(prefix="lastpair-test-") as name:
        folder = Path(name)
        user = f"user {Path(__file__).owner()};" if os.geteuid() == 0 else ""
        settings = folder / "nginx.conf"
        settings.write_text(MAIN.format(folder=folder, user=user, documented=documented(port, service_port)))
        log = folder / "log"
        with log.open("ab") as errors:
            process = subprocess.Popen([program, "-c", settings, "-e", log], stdout=errors, stderr=errors)
        try:
            wait_for(lambda: (folder / "pid").exists() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
