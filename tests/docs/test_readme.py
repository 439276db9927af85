"""The README: valid, true of the settings, and its code runs as it stands."""

from __future__ import annotations

import dataclasses
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import huey
import pytest
from support.programs import EXAMPLES, ROOT, Program, run
from support.servers import free_port

import huey_patient
from huey_patient.keys import generate_key

TEXTS = ("README.rst", "ARCHITECTURE.rst", "examples/README.rst")
URL = "http://127.0.0.1:8000"


def parsed(text: str) -> docutils.nodes.document:
    """The document tree of ``text``; a warning is an error."""
    strict = {"halt_level": 2, "report_level": 2, "syntax_highlight": "none"}
    return docutils.core.publish_doctree(text, settings_overrides=strict)


def readme() -> str:
    return (ROOT / "README.rst").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language."""
    found = parsed(readme()).findall(docutils.nodes.literal_block)
    return [block.astext() for block in found if language in block["classes"]]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_valid(name: str) -> None:
    parsed((ROOT / name).read_text())


@pytest.mark.parametrize("name", TEXTS)
def test_every_file_that_a_text_names_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    names = set(re.findall(r"``((?:[a-z_]+/)*[A-Za-z_]+\.(?:py|rst|md|lua|toml))``", text))
    names.discard("app.py")  # the reader's own

    missing = [one for one in names if not exists(one, beside=(ROOT / name).parent)]

    assert missing == []


def exists(name: str, *, beside: Path) -> bool:
    """Whether there is such a file: in the checkout, beside a text, or in the package."""
    inside = any(True for _ in (ROOT / "huey_patient").rglob(name))
    return inside or any((place / name).exists() for place in (ROOT, beside))


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(readme().splitlines()) < 200


def test_the_program_works_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("python")[0])
    (tmp_path / "examples").symlink_to(EXAMPLES)
    api, consumer, program = (line.removeprefix("$ ") for line in blocks("console")[0].split("\n"))
    port = free_port()
    assert URL in program

    with ExitStack() as stack:
        # Another port, because the usual one may be taken; nothing else differs.
        command = [*api.split(), "--port", str(port)]
        stack.enter_context(Program(command, cwd=tmp_path)).wait_for("http://")
        running = stack.enter_context(Program(consumer.split(), cwd=tmp_path))
        run(program.replace(URL, f"http://127.0.0.1:{port}").split(), cwd=tmp_path)
        answers: dict[int, str] = {}
        while len(answers) < 20:
            # Two workers print: the ends of their lines may change places.
            line = running.wait_for('"waited"')
            answers.update((int(n), text) for n, text in re.findall(r"(\d+): (200 {.*?})", line))

    assert answers == {n: f'200 {{"path": "/{n}", "waited": 2.0}}' for n in range(20)}


def test_the_other_lines_of_python_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATIENT_KEY", f"{generate_key()},{generate_key()}")
    names: dict[str, Any] = {"huey": huey.MemoryHuey("readme", immediate=True)}
    exec("import os\nfrom huey_patient import Patient, secret", names)
    others = blocks("python")[1:]

    for block in others:
        exec(block, names)

    assert len(others) == 2
    assert names["patient"]._keyring.seals
    assert names["headers"]["Authorization"].prefix == "Bearer "


def test_the_table_names_every_setting_and_its_default() -> None:
    told = dict(re.findall(r"^``(\w+)`` +(\S+)  ", readme(), re.MULTILINE))

    real = {one.name: str(one.default) for one in dataclasses.fields(huey_patient.Settings)}

    assert told.pop("user_agent") == "huey-patient/..."
    assert real.pop("user_agent") == f"huey-patient/{huey_patient.__version__}"
    assert told == real
