"""Settings: defaults, ranges, and the environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from huey_patient.errors import ConfigurationError, PatientError
from huey_patient.settings import Settings
from huey_patient.version import __version__


def test_the_defaults_are_those_of_the_manual() -> None:
    assert Settings().as_dict() == {
        "max_connections": 256,
        "request_timeout": 60.0,
        "connection_timeout": None,
        "stream_idle_timeout": 60.0,
        "connection_pool_size": 100,
        "retries": 3,
        "ca_file": None,
        "client_cert": None,
        "user_agent": f"huey-patient/{__version__}",
        "shutdown_timeout": None,
        "max_response_size": 1_048_576,
        "max_redirects": 5,
        "raise_error_responses": False,
        "heartbeat_interval": 5.0,
        "orphan_threshold": 30.0,
        "accept_plaintext": False,
        "payload_store_threshold": 65_536,
        "payload_store_keep": 604_800.0,
        "compression_level": 3,
        "callback_priority": None,
        "allow_hosts": None,
        "block_private_addresses": False,
        "deny_ports": (),
        "max_attempts": 3,
        "start_method": "forkserver",
    }


@pytest.mark.parametrize(
    "name",
    [
        "request_timeout",
        "connection_timeout",
        "stream_idle_timeout",
        "shutdown_timeout",
        "heartbeat_interval",
        "payload_store_keep",
    ],
)
@pytest.mark.parametrize("value", [0, -1, "60", float("nan"), float("inf"), True])
def test_times_are_positive_numbers_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    "name", ["request_timeout", "stream_idle_timeout", "heartbeat_interval", "orphan_threshold"]
)
def test_times_without_which_nothing_ends_cannot_be_left_out(name: str) -> None:
    endless: dict[str, Any] = {name: None}

    with pytest.raises(ConfigurationError, match=name):
        Settings(**endless)


@pytest.mark.parametrize("name", ["connection_timeout", "shutdown_timeout", "proxy_url"])
def test_what_may_be_left_out_may_be_none(name: str) -> None:
    options: dict[str, Any] = {name: None}

    assert getattr(Settings(**options), name) is None


def test_times_may_be_fractions() -> None:
    assert Settings(request_timeout=0.25, connection_timeout=0.1).request_timeout == 0.25


@pytest.mark.parametrize(
    "name", ["max_connections", "connection_pool_size", "max_response_size", "max_attempts"]
)
@pytest.mark.parametrize("value", [0, -1, 100.5, "10", None, True])
def test_sizes_are_positive_integers(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a positive integer"):
        Settings(**{name: value})


@pytest.mark.parametrize("name", ["retries", "max_redirects"])
@pytest.mark.parametrize("value", [-1, 5.5, "3", None, True])
def test_counts_are_integers_of_zero_or_more(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be a non-negative integer"):
        Settings(**{name: value})


def test_counts_may_be_zero() -> None:
    assert Settings(retries=0, max_redirects=0).retries == 0


@pytest.mark.parametrize(
    "url", ["http://proxy:8080", "https://proxy", "http://user:password@proxy:8080", None]
)
def test_a_proxy_is_an_http_url(url: str | None) -> None:
    assert Settings(proxy_url=url).proxy_url == url


@pytest.mark.parametrize("url", ["not-a-url", "ftp://proxy", "http://", "", 8080])
def test_anything_else_is_no_proxy(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="proxy_url must be an HTTP or HTTPS URL"):
        Settings(proxy_url=url)


@pytest.mark.parametrize("interval", [300, 150, 200])
def test_a_consumer_is_not_taken_for_dead_between_two_beats(interval: float) -> None:
    with pytest.raises(ConfigurationError, match=r"orphan_threshold \(300\) must be more than"):
        Settings(heartbeat_interval=interval, orphan_threshold=300)

    assert Settings(heartbeat_interval=149, orphan_threshold=300).heartbeat_interval == 149


@pytest.mark.parametrize("level", [0, 23, -1, 3.5, "3"])
def test_the_compression_level_is_one_of_zstandards(level: Any) -> None:
    with pytest.raises(ConfigurationError, match="compression_level"):
        Settings(compression_level=level)


@pytest.mark.parametrize(
    "name", ["raise_error_responses", "block_private_addresses", "accept_plaintext"]
)
def test_switches_are_true_or_false(name: str) -> None:
    options: dict[str, Any] = {name: "yes"}

    with pytest.raises(ConfigurationError, match=f"{name} must be True or False"):
        Settings(**options)


def test_the_io_process_is_not_forked_from_a_process_with_threads() -> None:
    assert Settings(start_method="spawn").start_method == "spawn"
    with pytest.raises(ConfigurationError, match="start_method must be one of"):
        Settings(start_method="fork")


def test_hosts_and_ports_are_lists() -> None:
    settings = Settings(allow_hosts=["a.example"], deny_ports=[25])  # type: ignore[arg-type]

    assert settings.allow_hosts == ("a.example",)
    assert settings.deny_ports == (25,)


@pytest.mark.parametrize(
    "options", [{"allow_hosts": "a.example"}, {"allow_hosts": [1]}, {"deny_ports": [0, 70_000]}]
)
def test_what_is_no_list_of_hosts_or_ports_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Settings(**options)


def ciphers(text: bytes) -> bytes:
    return text


@pytest.mark.parametrize(
    "options",
    [
        {"encryption": ciphers},
        {"decryption": ciphers},
        {"encryption": ciphers, "decryption": ciphers, "encryption_key": "a passphrase here"},
    ],
)
def test_sealing_is_configured_in_one_way(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="encryption"):
        Settings(**options)


def test_keys_may_be_given_as_a_list() -> None:
    assert Settings(encryption_key=["one", "two"]).encryption_key == ("one", "two")  # type: ignore[arg-type]


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().retries = 5  # type: ignore[misc]


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="max_conections"):
        Settings(max_conections=10)  # type: ignore[call-arg]


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, PatientError)


def test_keys_and_credentials_are_not_shown() -> None:
    settings = Settings(encryption_key="CANARY key", proxy_url="http://u:CANARY@proxy")

    assert "CANARY" not in repr(settings)
    assert "CANARY" not in repr(settings.as_dict())


# The environment.


def test_the_environment_names_any_setting() -> None:
    environ = {
        "HUEY_PATIENT_MAX_CONNECTIONS": "1000",
        "HUEY_PATIENT_REQUEST_TIMEOUT": "2.5",
        "HUEY_PATIENT_CONNECTION_TIMEOUT": "1",
        "HUEY_PATIENT_RAISE_ERROR_RESPONSES": "1",
        "HUEY_PATIENT_BLOCK_PRIVATE_ADDRESSES": "FALSE",
        "HUEY_PATIENT_ACCEPT_PLAINTEXT": "0",
        "HUEY_PATIENT_PROXY_URL": "http://proxy:8080",
        "HUEY_PATIENT_ALLOW_HOSTS": "a.example, b.example",
        "HUEY_PATIENT_DENY_PORTS": "25, 6379",
        "HUEY_PATIENT_ENCRYPTION_KEY": "first key of two, second key of two",
        "HUEY_PATIENT_CALLBACK_PRIORITY": "7",
        "PATH": "/bin",
    }

    assert Settings.from_environ(environ) == Settings(
        max_connections=1000,
        request_timeout=2.5,
        connection_timeout=1.0,
        raise_error_responses=True,
        block_private_addresses=False,
        accept_plaintext=False,
        proxy_url="http://proxy:8080",
        allow_hosts=("a.example", "b.example"),
        deny_ports=(25, 6379),
        encryption_key=("first key of two", "second key of two"),
        callback_priority=7,
    )


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environ({}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [("MAX_CONNECTIONS", "many"), ("REQUEST_TIMEOUT", ""), ("ACCEPT_PLAINTEXT", "perhaps")],
)
def test_a_variable_that_does_not_read_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"HUEY_PATIENT_{name}"):
        Settings.from_environ({f"HUEY_PATIENT_{name}": text})


def test_a_variable_that_names_no_setting_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="HUEY_PATIENT_MAX_CONECTIONS names no setting"):
        Settings.from_environ({"HUEY_PATIENT_MAX_CONECTIONS": "10"})


def test_a_value_out_of_its_range_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="max_connections"):
        Settings.from_environ({"HUEY_PATIENT_MAX_CONNECTIONS": "0"})


@pytest.mark.parametrize("store", ["huey", "file:///folder", "s3://bucket/x", "memory://x", None])
def test_a_payload_store_is_huey_or_a_url(store: Any) -> None:
    assert Settings(payload_store=store).payload_store == store


@pytest.mark.parametrize("store", ["", "redis", "/folder", 7, b"huey", True])
def test_another_payload_store_is_refused(store: Any) -> None:
    with pytest.raises(ConfigurationError, match="payload_store must be"):
        Settings(payload_store=store)


def test_the_credentials_of_a_payload_store_are_not_shown() -> None:
    settings = Settings(payload_store="s3://key:secret@bucket/x")

    assert "secret" not in repr(settings)
    assert "secret" not in repr(settings.as_dict())


def test_the_place_of_payloads_can_be_read_from_the_environment() -> None:
    settings = Settings.from_environ(
        {
            "HUEY_PATIENT_PAYLOAD_STORE": "file:///var/lib/app/payloads",
            "HUEY_PATIENT_PAYLOAD_STORE_THRESHOLD": "1000",
            "HUEY_PATIENT_PAYLOAD_STORE_KEEP": "86400",
        }
    )

    assert settings.payload_store == "file:///var/lib/app/payloads"
    assert (settings.payload_store_threshold, settings.payload_store_keep) == (1000, 86400.0)
