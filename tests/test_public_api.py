"""The public face, and the import rules that no tool checks."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import huey_patient
from huey_patient import errors

ROOT = Path(huey_patient.__file__).parent

PUBLIC = {
    # Asking
    "Patient",
    "BoundClient",
    "Request",
    "RequestTemplate",
    "Settings",
    "LLM_STATUSES",
    "SecretReference",
    "secret",
    # Where large envelopes lie
    "FsspecPayloads",
    "PayloadStore",
    # Answers
    "CallbackArgs",
    "Headers",
    "Response",
    "ServerSentEvent",
    # How a request may end otherwise
    "RequestError",
    "Abandoned",
    "Blocked",
    "Canceled",
    "ClientError",
    "ConnectFailed",
    "Expired",
    "HttpError",
    "Interrupted",
    "InvalidResponse",
    "PayloadLost",
    "PreprocessorFailed",
    "RedirectLoop",
    "RequestTimeout",
    "ResponseTooLarge",
    "SecretNotFound",
    "ServerError",
    "StreamInterrupted",
    "TLSFailed",
    "TooManyRedirects",
    # What else can go wrong
    "PatientError",
    "ConfigurationError",
    "EnvelopeError",
    "StoreUnavailable",
    "UnknownCallback",
    "__version__",
}

PATIENT = {
    *("get", "post", "put", "patch", "delete", "head", "options", "request", "execute", "client"),
    *("callback", "after_completion", "after_error", "on_retries_exhausted"),
    *("register_secret", "register_preprocessor", "register_payload_store"),
    *("stats", "processes", "in_flight", "pending_count", "cancel", "quiet", "rekey"),
}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(huey_patient.__all__) == PUBLIC
    assert len(huey_patient.__all__) == len(PUBLIC)


def test_every_public_name_is_there_and_explained() -> None:
    for name in huey_patient.__all__:
        found = getattr(huey_patient, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, name


def test_a_patient_has_the_methods_of_the_manual() -> None:
    for name in PATIENT:
        assert inspect.getdoc(getattr(huey_patient.Patient, name)), name


def test_every_error_that_may_reach_an_application_is_public() -> None:
    for name in errors.__all__:
        found = getattr(errors, name)
        if isinstance(found, type):
            assert getattr(huey_patient, name, None) is found


def test_arguments_after_the_second_are_given_by_name() -> None:
    for name in huey_patient.__all__:
        found = getattr(huey_patient, name)
        methods = inspect.getmembers(found, inspect.isfunction) if inspect.isclass(found) else []
        for method, function in methods:
            if method.startswith("_"):
                continue
            by_position = [
                parameter
                for parameter in inspect.signature(function).parameters.values()
                if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
            ]
            assert len(by_position) <= 2, f"{name}.{method}"


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert version("huey_patient") == huey_patient.__version__


# Who imports what.


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imports(file: str, tree: ast.Module) -> Iterator[str]:
    """Every name that ``file`` imports, as an absolute dotted name."""
    package = ["huey_patient", *Path(file).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def importers(*prefixes: str) -> set[str]:
    """The files that import one of ``prefixes`` or something in it."""
    dotted = tuple(f"{prefix}." for prefix in prefixes)
    return {
        file
        for file, tree in modules()
        if any(f"{name}.".startswith(dotted) for name in imports(file, tree))
    }


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_nobody_inside_imports_the_package_root() -> None:
    for file, tree in modules():
        for name in imports(file, tree):
            inside = name.startswith("huey_patient.") and name.count(".") == 1
            assert name != "huey_patient", file
            assert not inside or is_module(name), f"{file} imports {name}"


def test_huey_s_consumer_is_known_to_one_file() -> None:
    assert importers("huey.consumer") == {"consumer.py"}


def test_aiohttp_stays_in_one_room() -> None:
    files = importers("aiohttp", "yarl", "multidict")

    assert files
    assert all(file.startswith("io_process/") for file in files), files


@pytest.mark.parametrize("driver", ["redis", "psycopg", "sqlite3"])
def test_each_database_is_known_to_its_own_files(driver: str) -> None:
    prefix = {"psycopg": "postgres", "sqlite3": "sqlite"}.get(driver, driver)
    files = importers(driver)

    assert files
    assert all(file.startswith(f"stores/{prefix}") for file in files), files


def test_every_module_says_what_it_is() -> None:
    for file, tree in modules():
        # A package that is only a folder has nothing to say.
        assert ast.get_docstring(tree) or not tree.body, file


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after ``statement``."""
    script = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stdout.split())


def test_an_application_that_only_submits_loads_no_http_client() -> None:
    assert "aiohttp" not in loaded_by("from huey_patient import Patient")


def test_the_io_process_loads_neither_huey_nor_a_database_driver() -> None:
    loaded = loaded_by("import huey_patient.io_process.main")

    assert not loaded & {"huey", "redis", "sqlite3", "psycopg", "gevent"}
