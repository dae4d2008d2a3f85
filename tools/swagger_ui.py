"""Updates the copy of Swagger UI that /docs serves: `make swagger-ui` (needs npm).

The copy is a part of npm's package `swagger-ui-dist`, which is Swagger UI's own release. It is kept in the repository because the
packages on PyPI that carry a current Swagger UI each need a web framework that the service does not use. VERSION.json records
where the files come from and what they are; test_swagger_ui.py recomputes the record.
"""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lastpair.web.pages import SWAGGER_UI_FILES, SWAGGER_UI_FOLDER

PACKAGE = "swagger-ui-dist"
LICENCES = ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt")
"""Swagger UI's own, and those of the libraries inside the bundle."""

FILES = sorted([*SWAGGER_UI_FILES, *LICENCES])
RECORD = "VERSION.json"


def record_of(folder: Path, integrity: str) -> dict[str, Any]:
    """What VERSION.json says about the files in this folder. `integrity` is npm's hash of the whole package."""
    bundle = (folder / "swagger-ui-bundle.js").read_text()
    return {
        "name": "Swagger UI",
        "version": the_one(r'PACKAGE_VERSION:"([\d.]+)"', bundle),
        "source": f"{PACKAGE} on npm",
        "integrity": integrity,
        "license": "Apache-2.0",
        "dompurify": the_one(r'DOMPurify\.version="([\d.]+)"', bundle),
        "files": {name: f"sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}" for name in FILES},
    }


def the_one(pattern: str, text: str) -> str:
    """The only match of this pattern."""
    [match] = re.findall(pattern, text)
    return str(match)


def update() -> None:
    """Replace the files with those of the newest release, and write the record. The package's scripts are not run."""
    with TemporaryDirectory() as directory:
        command = ["npm", "pack", f"{PACKAGE}@latest", "--json", "--ignore-scripts"]
        output = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, check=True).stdout
        [packed] = json.loads(output)
        with tarfile.open(Path(directory) / packed["filename"]) as archive:
            archive.extractall(directory, filter="data")
        package = Path(directory) / "package"
        record = record_of(package, packed["integrity"])
        assert record["version"] == packed["version"]
        shutil.rmtree(SWAGGER_UI_FOLDER, ignore_errors=True)
        SWAGGER_UI_FOLDER.mkdir()
        for name in FILES:
            (SWAGGER_UI_FOLDER / name).write_bytes((package / name).read_bytes())
        (SWAGGER_UI_FOLDER / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    print(f"Swagger UI {record['version']}, with DOMPurify {record['dompurify']}")


if __name__ == "__main__":
    update()
