"""The copy of Swagger UI in the repository is what its record says it is."""

import json

from lastpair.web.pages import SWAGGER_UI_FOLDER
from tools.swagger_ui import FILES, RECORD, record_of


def test_the_files_are_those_of_the_record() -> None:
    """No file was edited or added, and the versions in the record are those inside the bundle."""
    record = json.loads((SWAGGER_UI_FOLDER / RECORD).read_text())
    assert record == record_of(SWAGGER_UI_FOLDER, record["integrity"])
    assert sorted(path.name for path in SWAGGER_UI_FOLDER.iterdir()) == sorted([*FILES, RECORD])
    assert record["license"] == "Apache-2.0"
    assert "Apache License" in (SWAGGER_UI_FOLDER / "LICENSE").read_text()
