# ruff: noqa: S608 - it writes SQL for people to read, from the names of our own functions
"""Writes db/router/api.sql and db/router/node.sql, the functions of a router, from those of a node: `python -m tools.router`.

db/router/routes.txt says where each function is carried out.
"""

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from tests.support.servers import ROOT

ROUTER_DIR = ROOT / "db" / "router"
FUNCTIONS_DIR = ROOT / "db" / "functions" / "api"
ROUTES = ROUTER_DIR / "routes.txt"

API_HEAD = """-- The schema api of a router: the row types of a node, and each of its functions for all nodes together.
--
-- `python -m tools.router` writes this file from db/router/routes.txt and the functions of a node. Change those.
"""
NODE_HEAD = """-- The schema of one node on a router: every public function as it is on this node, by PL/Proxy.
--
-- `python -m tools.router` writes this file from the functions of a node. `lastpair migrate` runs it for each node, with the
-- number of the node instead of the 0 in node_0.
"""

TYPES = """
select t.typname, obj_description(t.oid, 'pg_type') as comment, array(
  select format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
  from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum
) as attributes
from pg_type t
where t.typnamespace = 'api'::regnamespace and t.typtype = 'c'
order by t.typname
"""
FUNCTIONS = """
select
  p.proname as name, pg_get_function_arguments(p.oid) as arguments, pg_get_function_identity_arguments(p.oid) as identity,
  pg_get_function_result(p.oid) as result, p.provolatile::text as volatility, p.pronargs as count,
  array(
    select row(x.name, format_type(x.type, null))
    from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality x (name, type, n) where x.n <= p.pronargs order by x.n
  ) as parameters,
  array(
    select row(x.name, format_type(x.type, null))
    from unnest(p.proargnames, p.proallargtypes, p.proargmodes) with ordinality x (name, type, mode, n)
    where x.mode in ('t', 'o') order by x.n
  ) as columns,
  obj_description(p.oid, 'pg_proc') as comment
from pg_proc p
where p.pronamespace = 'api'::regnamespace
order by p.proname, p.pronargs
"""
COPIED = ("errors", "fold_case", "name_key")
"""Private functions of a node that a router has, too, in schema router: for api.errors, and for the register of names."""

COPIES = """
select pg_get_functiondef(p.oid) from pg_proc p
where p.pronamespace = 'inventory'::regnamespace and p.proname = any ($1) order by p.proname
"""
VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}


class NoRoute(Exception):
    """routes.txt does not say what the generator needs. The message says what to add."""


@dataclass(frozen=True)
class Function:
    """A public function of a node."""

    name: str
    arguments: str
    identity: str
    result: str
    volatility: str
    parameters: list[tuple[str, str]]
    columns: list[tuple[str, str]]
    """The columns of its table or record; none if it returns a scalar or a row type."""

    comment: str

    @property
    def writes(self) -> bool:
        """Whether it may change something."""
        return self.volatility == "v"

    def head(self, schema: str, language: str, volatility: str) -> str:
        """Its definition up to the body."""
        return (
            f"create or replace function {schema}.{self.name}({_wrapped(self.arguments)})\nreturns {_wrapped(self.result)}\n"
            f"language {language} {volatility} security definer\n"
        )

    def commented(self, schema: str) -> str:
        """The comment on it."""
        return f"comment on function {schema}.{self.name}({self.identity}) is\n{_quoted(self.comment)};\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _wrapped(text: str) -> str:
    # Arguments or columns that are too long for one line get a line each.
    if len(text) < 80:
        return text
    before, parenthesis, inside = text.partition("(") if text.startswith("TABLE(") else ("", "", text)
    lines = ",\n  ".join(re.split(r", (?![^()]*\))", inside.removesuffix(")") if parenthesis else inside))
    return f"{before}{parenthesis}\n  {lines}\n{')' if parenthesis else ''}"


def routes() -> dict[str, str]:
    """What routes.txt says of each function."""
    lines = [
        (line.split()[0], line.split(maxsplit=1)[1])
        for line in ROUTES.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return dict(lines)


def body_of(function: Function, route: str) -> str:
    """What the function does on a router."""
    kind, _, rest = route.partition(" ")
    names = [name for name, _ in function.parameters]
    values = ", ".join(f"'{name}', {name}" for name in names)
    asked = f"'{function.name}', jsonb_build_object({values})"
    by_id = re.fullmatch(r"(?:of (\w+): )?(.*)", rest)
    assert by_id is not None  # it fits every text
    parameter, order = by_id.groups()
    mentioned = {"by_id": rest, "batch": rest.partition(".")[0]}.get(kind, parameter)
    if mentioned and mentioned not in names:
        raise NoRoute(f"db/router/routes.txt: {function.name} has no parameter {mentioned}")
    if kind == "batch":
        requests, _, field = rest.partition(".")
        ids = f"array(select q.{field} from unnest({requests}) with ordinality q order by q.ordinality)"
        return f"  return query select o.* from router.batch({asked}, {ids}) o;\n"
    if kind == "by_id":
        return _returned(function, f"router.ask(router.node_of({rest}), {asked})")
    if kind in {"first", "main"}:
        return _returned(
            function, f"router.ask_first({asked})" if kind == "first" else f"router.ask((router.all_nodes())[1], {asked})"
        )
    if kind == "list":
        # A list in the order of ids needs no more than the id after which the page comes.
        asked_page = f"router.page({asked})"
        if "p_after_at" not in names:
            asked_page = f"router.together(array(select a.rows from router.ask_all({asked}) a))"
        if parameter:
            asked_page = (
                f"case when {parameter} is null\n      then {asked_page}\n"
                f"      else router.ask(router.node_of({parameter}), {asked})\n    end"
            )
        # The nodes refuse a bad limit. PostgreSQL looks at LIMIT before it asks them, so it must get a good one.
        return _returned(function, asked_page, f"\n  order by {order}\n  limit greatest(p_limit, 1)")
    if kind == "all":
        return _returned(function, f"router.together(array(select a.rows from router.ask_all({asked}) a))")
    if kind == "sum":
        return _summed(function, rest, asked)
    raise NoRoute(f"db/router/routes.txt: {function.name} has the route {route!r}, which is none")


def _rows(function: Function, rows: str) -> str:
    # The rows of a JSON array, in a FROM clause.
    if function.columns:
        columns = ", ".join(f"{_identifier(name)} {kind}" for name, kind in function.columns)
        return f"json_to_recordset(\n    {rows}\n  ) as r ({columns})"
    return f"json_populate_recordset(\n    null::{function.result.removeprefix('SETOF ')},\n    {rows}\n  ) r"


def _returned(function: Function, rows: str, ending: str = "") -> str:
    if function.result == "void":
        return f"  perform {rows};\n"
    if function.result == "record":
        return f"  select r.* into {', '.join(name for name, _ in function.columns)}\n  from {_rows(function, rows)};\n"
    if function.result.startswith(("SETOF ", "TABLE(")):
        return f"  return query\n  select r.*\n  from {_rows(function, rows)}{ending};\n"
    return f"  return {rows} ->> 0;\n"


def _summed(function: Function, rest: str, asked: str) -> str:
    rows = f"router.together(array(select a.rows from router.ask_all({asked}) a))"
    if not function.columns:
        values = f"json_array_elements({rows}) e where e.value::text <> 'null'"
        return f"  return (select sum(e.value::text::{function.result}) from {values});\n"
    how = dict(([*part.split(), "sum"])[:2] for part in rest.split(", "))
    if missing := [name for name, _ in function.columns if name not in how]:
        raise NoRoute(f"db/router/routes.txt: sum of {function.name} does not name its columns {', '.join(missing)}")
    columns = ", ".join(f"{how[name]}(r.{name})::{kind}" for name, kind in function.columns)
    return f"  return query\n  select {columns}\n  from {_rows(function, rows)};\n"


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in {"position", "from", "to"} else f'"{name}"'


def api_function(function: Function, route: str) -> str:
    """The function of schema api on a router."""
    refusal = "  perform router.refuse_block();\n" if function.writes else ""
    # The function has the rights of its owner, because only the owner has a login on the nodes.
    return (
        function.head("api", "plpgsql", VOLATILITY[function.volatility])
        + "set search_path = pg_catalog, pg_temp\nas $$\n#variable_conflict use_column\nbegin\n"
        + refusal
        + body_of(function, route)
        + "end\n$$;\n\n"
        + function.commented("api")
    )


def node_function(function: Function) -> str:
    """The function of the schema of a node."""
    return (
        function.head("node_0", "plproxy", "volatile")  # PL/Proxy takes no others
        + f"as $$\n  cluster 'node_0';\n  run on 0;\n  target api.{function.name};\n$$;\n"
    )


def type_definitions(types: Iterable[asyncpg.Record]) -> Iterator[str]:
    """The row types, each after those of its attributes."""
    left = {row["typname"]: row for row in types}
    while left:
        for name, row in list(left.items()):
            if not any(
                re.search(rf'\bapi\."?{other}\b', attribute) for other in left if other != name for attribute in row["attributes"]
            ):
                attributes = ",\n  ".join(row["attributes"])
                quoted = '"user"' if name == "user" else name
                yield f"create type api.{quoted} as (\n  {attributes}\n);\n"
                if row["comment"]:
                    yield f"comment on type api.{quoted} is\n{_quoted(row['comment'])};\n"
                del left[name]


def texts(node: "Node") -> dict[Path, str]:
    """The generated files and their contents. Raises NoRoute."""
    known, functions = routes(), node.functions
    names = {function.name for function in functions}
    if missing := sorted(names - known.keys()):
        raise NoRoute(f"db/router/routes.txt has no line for api.{missing[0]}: add one that says where a router carries it out")
    if surplus := sorted(known.keys() - names):
        raise NoRoute(f"db/router/routes.txt has a line for api.{surplus[0]}, but no node has this function: remove it")
    if handless := sorted(
        n for n, route in known.items() if route == "hand" and not (ROUTER_DIR / "functions" / f"{n}.sql").exists()
    ):
        raise NoRoute(
            f"db/router/routes.txt says that a router has its own {handless[0]}: write db/router/functions/{handless[0]}.sql"
        )
    same = [_definition(name) for name, route in known.items() if route == "same"]
    own = [
        api_function(function, known[function.name])
        for function in functions
        if known[function.name] not in {"same", "hand", "node"}
    ]
    return {
        ROUTER_DIR / "api.sql": "\n".join([API_HEAD, *type_definitions(node.types), *node.copies, *same, *own]),
        ROUTER_DIR / "node.sql": "\n".join([NODE_HEAD, *map(node_function, functions)]),
    }


def _definition(name: str) -> str:
    # The definition in the file of a function, without the comment above it. It calls the router's copies of private functions.
    text = (FUNCTIONS_DIR / f"{name}.sql").read_text()
    return text[text.index("create or replace") :].replace("inventory.", "router.")


@dataclass(frozen=True)
class Node:
    """What the generator reads of a node."""

    types: list[asyncpg.Record]
    functions: list[Function]
    copies: list[str]
    """The definitions of COPIED, in schema router."""


async def read(url: str) -> Node:
    """The row types and the functions of this database."""
    connection = await asyncpg.connect(url)
    try:
        functions = [
            Function(
                row["name"],
                row["arguments"],
                row["identity"],
                row["result"],
                row["volatility"],
                [tuple(pair) for pair in row["parameters"]],
                [tuple(pair) for pair in row["columns"]],
                row["comment"] or "",
            )
            for row in await connection.fetch(FUNCTIONS)
        ]
        copies = [row[0].strip().replace("inventory.", "router.") + ";\n" for row in await connection.fetch(COPIES, COPIED)]
        return Node(await connection.fetch(TYPES), functions, copies)
    finally:
        await connection.close()


async def _migrate_and_read(url: str) -> Node:
    await migrate(url)
    return await read(url)


def main() -> None:
    """Write the files."""
    with TemporaryDirectory(prefix="lastpair-router-") as folder, embedded_database(Path(folder)) as url:
        node = asyncio.run(_migrate_and_read(url))
    try:
        for path, text in texts(node).items():
            path.write_text(text)
    except NoRoute as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
