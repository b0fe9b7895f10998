"""What the walls of the house hold that import contracts cannot say."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.jobs import JOBS
from core.settings import PREFIX
from workers.main import WorkerSettings

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("core", "graph", "storage", "web", "workers")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts)

CLIENTS = {"aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client", "websockets", "websocket"}
MAY_CONNECT = {
    "core/wire/http.py": "the one client of providers, behind the egress guard",
    "storage/embedded/supervisor.py": "asks its own child on loopback whether it is ready",
    "web/demo.py": "is a client of the API, as any visitor's program",
    "web/demo_models.py": "asks its own children on loopback whether they are ready",
}
MAY_READ_ENVIRONMENT = {
    "storage/account.py": "starts a process",
    "storage/embedded/__main__.py": "starts a process",
    "storage/prepare.py": "starts a process",
    "web/__main__.py": "starts a process",
    "web/demo.py": "starts a process",
    "workers/__main__.py": "starts a process",
}
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
EMPTY_NAMES = ("Manager", "Service", "Handler", "Helper", "Helpers", "Util", "Utils", "Data", "Info", "Wrapper")
KNOWN_NAMES = {"PageInfo": "the word of the Relay specification"}


def test_only_the_wire_speaks_http_to_others() -> None:
    connecting = {place(path) for path in SOURCES if _imports(path) & CLIENTS}

    assert connecting == set(MAY_CONNECT)


def test_only_starting_processes_read_the_environment() -> None:
    reading = {place(path) for path in SOURCES if _reads_environment(path)}

    assert reading == set(MAY_READ_ENVIRONMENT)


def test_only_the_settings_name_environment_variables_of_the_server() -> None:
    """A variable that a rule of core, storage or graph named by itself would be in no table and checked nowhere."""
    naming = {
        place(path)
        for path in SOURCES
        if path.parts[-2] != "embedded" and re.search(rf"environ\S*\W+{PREFIX}", path.read_text("utf-8"))
    }

    assert naming <= {"core/settings.py", "web/demo.py"}


def test_the_readme_lists_every_setting_and_no_other() -> None:
    source = (ROOT / "core/settings.py").read_text("utf-8")
    read = {PREFIX + name for name in re.findall(r'reader\.take\("([A-Z_]+)"', source)}
    table = re.findall(rf"^\| `({PREFIX}[A-Z_]+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)

    assert len(read) > 10
    assert sorted(table) == sorted(read)


def test_every_job_has_a_worker_and_every_worker_a_job() -> None:
    assert sorted(function.name for function in WorkerSettings.functions) == sorted(job.name for job in JOBS)


def test_no_adapter_imports_another() -> None:
    adapters = {path.stem: path for path in (ROOT / "core/providers").glob("*.py") if path.stem != "__init__"}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (kept_apart,) = (set(one["modules"]) for one in contracts if one["type"] == "independence")

    imported = {
        f"{name} imports {other}"
        for name, path in adapters.items()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("core.providers")
        for other in ([alias.name for alias in node.names] if node.module == "core.providers" else [node.module])
    }

    assert not imported
    assert kept_apart == {f"core.providers.{name}" for name in adapters}


def test_the_architecture_page_has_every_module_of_core_in_its_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == ["core"])
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = page.partition("| rows | modules |")[2].partition("\n\n")[0]

    assert re.findall(r"`(\w+)`", rows) == [name for layer in layers for name in re.findall(r"\w+", layer)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: place(path))
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = _tree(path)

    assert not tree.body or ast.get_docstring(tree), "a module opens with one sentence"


def test_nothing_is_left_unfinished() -> None:
    unfinished = [
        f"{place(path)}: {found[0]}"
        for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "run"]
        if "node_modules" not in path.parts and (found := UNFINISHED.search(path.read_text("utf-8")))
    ]

    assert not unfinished


def test_classes_are_named_by_what_they_are() -> None:
    empty = [
        f"{place(path)}: {node.name}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith(EMPTY_NAMES) and node.name not in KNOWN_NAMES
    ]

    assert not empty


def test_no_task_is_started_that_nobody_holds() -> None:
    """A task that only the loop refers to may be collected in the middle, and its error is never seen."""
    bare = [
        f"{place(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Expr)
        and _called(node.value) in {"create_task", "ensure_future"}
        and not _of_a_group(node.value)
    ]

    assert not bare


def place(path: Path) -> str:
    """Return a file's path within the repository."""
    return path.relative_to(ROOT).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports, each with all that stand above it."""
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in _above(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= set(_above(node.module)) | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _above(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _reads_environment(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in {"environ", "environb", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        for node in ast.walk(_tree(path))
    ) or bool(_imports(path) & {"os.environ", "os.getenv"})


def _called(node: ast.expr) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def _of_a_group(node: ast.expr) -> bool:
    """Tell whether a task is started in a task group, which holds it."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id not in {"asyncio", "loop"}
    )
