"""The JavaScript client in Node, with Node's own test runner; its types; the example of its README."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from lastpair import __version__
from tests.support.debian import needed
from tests.support.in_process import InProcess
from tests.support.npm import npm_package
from tests.support.servers import ROOT

FOLDER, CLIENT = Path(__file__).with_name("js"), ROOT / "clients" / "js"
TYPESCRIPT = (
    "typescript",
    "5.9.3",
    "jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==",
)


def find_node() -> str:
    """The path of Node."""
    return needed(lambda: shutil.which("node"), "Node", "nodejs")


async def run_node(*arguments: object, **environment: str) -> str:
    """Run Node, which must succeed; returns its output."""
    process = await asyncio.create_subprocess_exec(
        find_node(),
        *map(str, arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def lines_of_readme(client: Path) -> int:
    """How many lines its README has below the title, without those that are empty."""
    lines = (client / "README.md").read_text().splitlines()[1:]
    return len([line for line in lines if line and not line.startswith("```")])


@pytest.mark.parametrize("name", ["rest", "live"])
async def test_in_node(service: InProcess, name: str) -> None:
    """Each method and what happens to a request that fails; the state of drops, and what happens to a stream that fails."""
    output = await run_node("--test", "--test-reporter=tap", FOLDER / f"{name}.test.mjs", LASTPAIR_URL=service.url)
    passed = re.search(r"^# pass (\d+)$", output, re.MULTILINE)
    tests = len(re.findall(r"^test\(", (FOLDER / f"{name}.test.mjs").read_text(), re.MULTILINE))
    assert passed is not None, output
    assert int(passed[1]) >= tests, output


async def test_the_example(service: InProcess, tmp_path: Path) -> None:
    """The example of the README runs as it stands."""
    [example] = re.findall(r"```js\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    program = example.replace("./lastpair.js", (CLIENT / "lastpair.js").as_uri()).replace("http://localhost:4000", service.url)
    (tmp_path / "example.mjs").write_text(program)
    lines = (await run_node(tmp_path / "example.mjs")).splitlines()
    assert lines == ["399.8", "SNAPSHOT", "1 left"]


def test_the_readme() -> None:
    """It has ten lines, of words and code together."""
    assert lines_of_readme(CLIENT) == 10


@pytest.mark.slow
async def test_types(pytestconfig: pytest.Config) -> None:
    """The declarations compile, fit a program that uses them, and have exactly the methods and names of the module."""
    package = npm_package(pytestconfig.cache, *TYPESCRIPT)
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"]
    await run_node(package / "bin" / "tsc", *options, FOLDER / "types.mts")
    declared = (CLIENT / "lastpair.d.ts").read_text()
    [methods] = re.findall(r"^export class Lastpair \{(.*?)^\}", declared, re.DOTALL | re.MULTILINE)
    show = f"""
      import * as client from {(CLIENT / "lastpair.js").as_uri()!r};
      console.log(Object.getOwnPropertyNames(client.Lastpair.prototype).sort().join());
      console.log(Object.keys(client).sort().join());
    """
    has = (await run_node("--input-type=module", "--eval", show)).split()
    names = re.findall(r"^export (?:class|function|const) (\w+)", declared, re.MULTILINE)
    assert has == [",".join(sorted(re.findall(r"^  (\w+)\(", methods, re.MULTILINE))), ",".join(sorted(names))]


def test_the_version() -> None:
    """The package has the version of the service."""
    assert f'"version": "{__version__}"' in (CLIENT / "package.json").read_text()
