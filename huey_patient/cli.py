"""``huey_patient``: Huey's consumer with a plugin flag, and what else is done by hand.

``huey_patient consumer app.huey --plugin app.patient -w 4`` takes every option
of ``huey_consumer``.  ``--plugin`` is for applications whose own module attaches
no `Patient`; without it this is ``huey_consumer``.
"""

from __future__ import annotations

import logging
import sys
from optparse import OptionParser
from typing import Any

from huey import Huey
from huey.bin.huey_consumer import load_huey
from huey.consumer_options import ConsumerConfig, OptionParserHandler

from .client import Patient
from .errors import ConfigurationError, StoreUnavailable
from .keys import generate_key
from .settings import Settings
from .version import __version__

__all__ = ["main"]

USAGE = """\
usage: huey_patient consumer [options] path.to.huey_instance
       huey_patient rekey [--plugin PATH] path.to.huey_instance
       huey_patient key
       huey_patient --version

consumer   run Huey's consumer
rekey      seal what waits with the first of the configured keys
key        print a new encryption key

Options of consumer are those of huey_consumer, and
  --plugin PATH   dotted path of a Patient, or of a function that is given the
                  Huey instance; "huey_patient" attaches a Patient configured
                  from HUEY_PATIENT_* environment variables
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--version"]:
        print(f"huey_patient {__version__}")
        return 0
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if arguments == ["key"]:
        print(generate_key())
        return 0
    command = {"consumer": _consumer, "rekey": _rekey}.get("".join(arguments[:1]))
    if command is None:
        print(USAGE, end="", file=sys.stderr)
        return 2
    return command(arguments[1:])


def _consumer(arguments: list[str]) -> int:
    options, paths = _parser().parse_args(arguments)
    given = {name: value for name, value in vars(options).items() if value is not None}
    plugin = given.pop("plugin", None)
    config = ConsumerConfig(**given)
    config.validate()
    huey = _loaded(paths, plugin)
    if huey is None:
        return 2
    config.setup_logger(logging.getLogger("huey"))
    huey.create_consumer(**config.values).run()
    return 0


def _rekey(arguments: list[str]) -> int:
    parser = OptionParser("huey_patient rekey [--plugin PATH] path.to.huey_instance")
    parser.prog = "huey_patient"
    parser.add_option("--plugin", metavar="PATH")
    options, paths = parser.parse_args(arguments)
    huey = _loaded(paths, options.plugin)
    if huey is None:
        return 2
    try:
        done = huey.patient.rekey()
    except StoreUnavailable as reason:
        print(f"huey_patient: {reason}", file=sys.stderr)
        return 1
    print(f"{done.resealed} requests were sealed again; {done.current} were current.")
    if done.gone:
        print(f"{done.gone} were answered or changed meanwhile.")
    for key_id, count in sorted(done.unopened.items()):
        print(f"{count} could not be opened; they need the key {key_id}.")
    if done.failed:
        print(f"{done.failed} have a payload that could not be read.")
    return 0 if done.complete else 1


def _loaded(paths: list[str], plugin: str | None) -> Huey | None:
    """The Huey of the one path, with its Patient; None when that was explained on stderr."""
    if len(paths) != 1:
        print(USAGE, end="", file=sys.stderr)
        return None
    huey = load_huey(paths[0])
    if not isinstance(huey, Huey):
        print(f"huey_patient: {paths[0]} is not a Huey instance", file=sys.stderr)
        return None
    try:
        attach(huey, plugin)
    except ConfigurationError as reason:
        print(f"huey_patient: {reason}", file=sys.stderr)
        return None
    return huey


def attach(huey: Huey, plugin: str | None) -> None:
    """See to it that ``huey`` has a `Patient`.

    Raises:
        ConfigurationError: Without a plugin: it has none.  With one: it is
            neither a `Patient` of this Huey nor a function, or it does not load.
    """
    if plugin == "huey_patient":
        if getattr(huey, "patient", None) is None:
            Patient(huey, Settings.from_environ())
        return
    if plugin is not None:
        _attach_path(huey, plugin)
    if getattr(huey, "patient", None) is None:
        raise ConfigurationError(
            "no Patient is attached to this Huey: make one in its module (Patient(huey)), "
            "or name one with --plugin"
        )


def _attach_path(huey: Huey, path: str) -> None:
    try:
        found: Any = load_huey(path)
    except (ImportError, AttributeError, ValueError) as reason:
        raise ConfigurationError(f"--plugin {path} cannot be loaded: {reason}") from None
    if isinstance(found, Patient):
        if found.huey is not huey:
            raise ConfigurationError(f"--plugin {path} is the Patient of another Huey")
    elif callable(found):
        found(huey)
    else:
        raise ConfigurationError(f"--plugin {path} is neither a Patient nor a function")


def _parser() -> OptionParser:
    # Huey's own parser, so that no option of huey_consumer is missing or differs.
    parser: OptionParser = OptionParserHandler().get_option_parser()
    parser.prog = "huey_patient"
    parser.set_usage("huey_patient consumer [options] path.to.huey_instance")
    parser.add_option("--plugin", metavar="PATH", help="what attaches a Patient to the Huey")
    return parser
