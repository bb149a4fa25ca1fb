"""Guards of the house's shape: what an outsider relies on and nobody should change by accident."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import cupola.errors
from cupola import CupolaError, hookspecs

ROOT = Path(__file__).parents[1]
SOURCES = {
    "cupola": ROOT / "core",
    "cupola_plugins": ROOT / "plugins",
    "cupola_providers": ROOT / "providers",
    "cupola_server": ROOT / "server",
}
PAGES = [
    "cupola",
    "cupola.cache",
    "cupola.catalog",
    "cupola.client",
    "cupola.engine",
    "cupola.errors",
    "cupola.events",
    "cupola.frontend",
    "cupola.provider",
    "cupola.testing",
]
AUTHOR_PAGES = ["cupola.cache", "cupola.catalog", "cupola.events", "cupola.frontend", "cupola.provider"]
HOOKS = [hook for hook in vars(hookspecs).values() if hasattr(hook, "cupola_spec")]
FILES = sorted(path for source in SOURCES.values() for path in source.rglob("*.py"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_typed_documented_and_named_by_a_test(hook):
    signature = inspect.signature(hook)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())
    assert inspect.getdoc(hook)
    tests = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert any(f"def {hook.__name__}(" in text for text in tests)


def test_every_hook_is_explained_in_contributing_with_its_signature():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for hook in HOOKS:
        arguments = ", ".join(inspect.signature(hook).parameters)
        assert f"`{hook.__name__}({arguments})`" in text


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_public_api_is_complete_and_sorted(page):
    module = importlib.import_module(page)
    assert module.__all__ == sorted(module.__all__)
    public = {name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(module.__all__)


@pytest.mark.parametrize("page", AUTHOR_PAGES)
def test_a_page_of_the_public_api_exports_every_type_that_its_signatures_name(page):
    module = importlib.import_module(page)
    exported = [getattr(module, name) for name in module.__all__ if name != "Settings"]
    named = {kind for value in exported for kind in _types_in_signatures(value)}
    assert {kind.__name__ for kind in named if kind not in exported} == set()


def _types_in_signatures(value):
    """Yield the classes of the core that the annotations of a class's fields and public methods name."""
    if not inspect.isclass(value) or not value.__module__.startswith("cupola."):
        return
    methods = [each for name, each in vars(value).items() if not name.startswith("_") and inspect.isfunction(each)]
    getters = [each.fget for each in vars(value).values() if isinstance(each, property)]
    for annotated in [value, *methods, *getters]:
        for hint in get_type_hints(annotated).values():
            yield from _classes_in(hint)


def _classes_in(hint):
    if inspect.isclass(hint) and hint.__module__.startswith("cupola."):
        yield hint
    for part in get_args(hint):
        for each in part if isinstance(part, list) else [part]:  # the arguments of a Callable
            yield from _classes_in(each)


def test_every_error_that_crosses_the_api_is_public():
    kinds = {kind.__name__ for kind in _subclasses(CupolaError) if kind.__module__.startswith("cupola.")}
    assert kinds < set(cupola.errors.__all__)


def _subclasses(kind):
    return {kind, *(each for child in kind.__subclasses__() for each in _subclasses(child))}


def test_the_wheel_made_from_the_sdist_holds_exactly_the_four_packages(tmp_path):
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=110)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(SOURCES)
    for package in SOURCES:
        assert f"{package}/py.typed" in names
    text = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "cupola = cupola_server.cli:main" in text
    assert "foundry = cupola_server.cli:main" in text


def test_the_builtins_come_in_by_the_entry_points_that_anybody_uses():
    names = {entry.name for entry in entry_points(group="cupola") if entry.dist and entry.dist.name == "cupola"}
    assert {"starter", "filesystem", "cpu", "openai"} <= names


@pytest.mark.parametrize("package", ["cupola", "cupola_server"])
def test_importing_is_quick_and_brings_no_runtime(package):
    code = (
        "import sys, time, json; start = time.perf_counter(); import "
        + package
        + "; took = time.perf_counter() - start;"
        "print(json.dumps([took, sorted(sys.modules)]))"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30).stdout)
        for _ in range(3)
    ]
    heavy = {"onnxruntime", "onnxruntime_genai", "numpy", "onnx", "gguf"}
    assert not heavy & set(runs[0][1])
    assert min(took for took, _ in runs) < 0.3


def test_no_plugin_module_brings_a_runtime_into_the_service():
    code = (
        "import sys; from cupola.plugins import load_plugins; from cupola import Settings; "
        "p = load_plugins(Settings()); p.frontends(); p.ensure_usable(strict=True); "
        "print(*sorted({'onnxruntime', 'onnxruntime_genai', 'onnx', 'gguf'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or node.end_lineno - body[0].lineno < 40, f"{node.name} is longer than 40 lines"


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    command = re.search(r"^pip install .*&& pytest$", readme, re.MULTILINE)
    assert command
    assert command.group() in (ROOT / ".ci" / "run").read_text("utf-8")
