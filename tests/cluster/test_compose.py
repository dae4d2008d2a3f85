"""compose.cluster.yaml, without Docker: what a reader can check."""

import os
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lastpair.cli import parser
from tests.support.servers import ROOT

TEXT = (ROOT / "compose.cluster.yaml").read_text()


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(TEXT)["services"])


def test_every_variable_has_a_message() -> None:
    assert TEXT.count("${") == len(re.findall(r"\$\{\w+:\?", TEXT))


def test_every_step_waits_for_one_that_exists_and_ends_or_is_healthy() -> None:
    known = services()
    for service in known.values():
        for name, how in service.get("depends_on", {}).items():
            waits_for_end = how["condition"] == "service_completed_successfully"
            assert known[name]["restart"] == ("no" if waits_for_end else "unless-stopped")
            assert waits_for_end or "healthcheck" in known[name]


def test_files_are_there() -> None:
    for service in services().values():
        for source, _, target in (volume.partition(":") for volume in service.get("volumes", [])):
            if target.startswith("/docker-entrypoint-initdb.d/"):
                assert (ROOT / source).is_file()
    dockerfile = ROOT / services()["router"]["build"]["dockerfile"]
    assert "postgresql-15-plproxy" in dockerfile.read_text()


def test_commands_are_those_of_this_version() -> None:
    script = services()["add-nodes"]["command"][2].replace("$$number", "1").replace("\\\n", " ")
    words = [line.split() for line in re.findall(r"lastpair (?:migrate|node)[^|\n]*", script)]
    assert [command[1:3] for command in words] == [["migrate"], ["node", "list"], ["node", "add"]]
    for command in words:
        parser().parse_args(command[1:])
    given = dict(pairwise(words[2]))
    assert (given["--number"], given["--url"]) == ("1", '"postgresql://lastpair_app@node-1/lastpair"')
    set_node = services()["number-node-1"]["command"]
    assert "--command=select inventory.set_node(1)" in set_node


def test_passwords_with_special_characters(tmp_path: Path) -> None:
    script = services()["add-nodes"]["command"][2].replace("$$", "$").partition("lastpair migrate")[0]
    passwords = {"LASTPAIR_PASSWORD": "a:b\\c %s", "LASTPAIR_APP_PASSWORD": "it's"}
    file = tmp_path / "pgpass"
    subprocess.run(["sh", "-ec", script], env=os.environ | passwords | {"PGPASSFILE": str(file)}, check=True)
    assert file.read_text() == "*:*:*:lastpair:a\\:b\\\\c %s\n*:*:*:lastpair_app:it's\n"
    assert file.stat().st_mode & 0o777 == 0o600
