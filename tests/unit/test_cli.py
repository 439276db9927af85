"""The command: what it prints, what it refuses, and what it attaches."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import uuid

import pytest
from huey import MemoryHuey
from huey.consumer_options import OptionParserHandler

from huey_patient import ConfigurationError, Patient, __version__, cli
from huey_patient.keys import parse_key


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that this test can name; returns its name."""

    def write(source: str) -> str:
        name = f"module_{uuid.uuid4().hex[:12]}"
        (tmp_path / f"{name}.py").write_text(
            f"from huey import MemoryHuey\nhuey = MemoryHuey({name!r}, immediate=False)\n{source}"
        )
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        if name.startswith("module_"):
            del sys.modules[name]


@pytest.fixture
def ran(monkeypatch):
    """The options of consumers that would have run."""
    options: list[dict] = []

    class Consumer:
        def run(self):
            pass

    def create(carriage, **given):
        options.append(given)
        return Consumer()

    monkeypatch.setattr("huey_patient.carriage.Carriage.create_consumer", create)
    monkeypatch.setattr("huey.consumer_options.ConsumerConfig.setup_logger", lambda *_: None)
    return options


def huey():
    return MemoryHuey(uuid.uuid4().hex, immediate=False)


def test_version_and_help_and_a_new_key(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"huey_patient {__version__}\n"
    assert cli.main(["--help"]) == 0
    assert "--plugin PATH" in capsys.readouterr().out
    assert cli.main(["key"]) == 0
    assert len(parse_key(capsys.readouterr().out)) == 32


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["consumer"], ["consumer", "a.huey", "b.huey"], ["key", "x"]]
)
def test_a_wrong_command_shows_how_it_is_used(arguments, capsys):
    assert cli.main(arguments) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: huey_patient consumer")


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["consumer", "--nonsense", "a.huey"])

    assert ended.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


def test_it_takes_every_option_of_huey_consumer():
    theirs = OptionParserHandler().get_option_parser()
    ours = cli._parser()

    for group in theirs.option_groups:
        for option in group.option_list:
            found = ours.get_option(str(option).split("/")[0])
            assert (found.dest, found.type, found.choices) == (
                option.dest,
                option.type,
                option.choices,
            )


def test_the_options_reach_the_consumer(module, ran):
    name = module("from huey_patient import Patient\npatient = Patient(huey)\n")
    options = ["-w", "4", "-k", "process", "-t", "7", "-g", "TERM", "-n", "-C"]

    assert cli.main(["consumer", *options, f"{name}.huey"]) == 0

    [given] = ran
    assert (given["workers"], given["worker_type"], given["shutdown_timeout"]) == (4, "process", 7)
    assert (given["graceful_signal"], given["periodic"]) == ("TERM", False)
    assert given["check_worker_health"] is False
    assert "plugin" not in given


@pytest.mark.parametrize("plugin", ["patient", "attach"])
def test_the_plugin_is_a_patient_or_a_function(module, ran, plugin):
    app = module("")
    other = module(
        f"from huey_patient import Patient\nimport {app}\n"
        + (
            f"patient = Patient({app}.huey)\n"
            if plugin == "patient"
            else "def attach(huey):\n    Patient(huey)\n"
        )
    )

    assert cli.main(["consumer", f"{app}.huey", "--plugin", f"{other}.{plugin}"]) == 0

    assert len(ran) == 1
    assert isinstance(sys.modules[app].huey.patient, Patient)


def test_an_application_without_a_patient_is_told_what_to_do(module, ran, capsys):
    name = module("")

    assert cli.main(["consumer", f"{name}.huey"]) == 2
    assert "--plugin" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize(
    ("plugin", "complaint"),
    [
        ("{app}.number", "neither a Patient nor a function"),
        ("{app}.nothing", "cannot be loaded"),
        ("no_such_module.patient", "cannot be loaded"),
        ("nodots", "cannot be loaded"),
        ("{app}.alien", "the Patient of another Huey"),
        ("{app}.idle", "no Patient is attached"),
    ],
)
def test_a_plugin_that_attaches_nothing_is_refused(module, ran, capsys, plugin, complaint):
    app = module(
        "from huey_patient import Patient\n"
        "number = 5\n"
        "alien = Patient(MemoryHuey('alien', immediate=False))\n"
        "def idle(huey): pass\n"
    )

    assert cli.main(["consumer", f"{app}.huey", "--plugin", plugin.format(app=app)]) == 2
    assert complaint in capsys.readouterr().err
    assert ran == []


def test_what_is_no_huey_is_refused(module, ran, capsys):
    name = module("number = 5\n")

    assert cli.main(["consumer", f"{name}.number"]) == 2
    assert "is not a Huey instance" in capsys.readouterr().err


def test_the_bare_plugin_reads_the_environment(monkeypatch):
    monkeypatch.setenv("HUEY_PATIENT_MAX_CONNECTIONS", "7")
    app = huey()

    cli.attach(app, "huey_patient")

    assert app.patient.settings.max_connections == 7


def test_the_bare_plugin_leaves_a_patient_as_it_is(monkeypatch):
    monkeypatch.setenv("HUEY_PATIENT_MAX_CONNECTIONS", "7")
    app = huey()
    patient = Patient(app)

    cli.attach(app, "huey_patient")

    assert app.patient is patient


def test_a_wrong_variable_is_refused(monkeypatch):
    monkeypatch.setenv("HUEY_PATIENT_NONSENSE", "7")

    with pytest.raises(ConfigurationError, match="HUEY_PATIENT_NONSENSE"):
        cli.attach(huey(), "huey_patient")


def test_it_can_be_run_as_a_module_and_as_a_script():
    module = [sys.executable, "-m", "huey_patient"]
    script = [os.path.join(os.path.dirname(sys.executable), "huey_patient")]
    for command in (module, script):
        ran = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=50)
        assert (ran.stdout, ran.stderr) == (f"huey_patient {__version__}\n", "")


def test_the_script_is_an_entry_point():
    [entry] = importlib.metadata.entry_points(group="console_scripts", name="huey_patient")

    assert entry.load() is cli.main
