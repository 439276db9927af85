"""The door in: what is stored, what is refused, and what can be seen of it."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys
import time
import uuid

import pytest
from huey import BlackHoleHuey, FileHuey, MemoryHuey, SqliteHuey
from huey.api import Result
from support.desk import URL, Desk

from huey_patient import (
    BoundClient,
    ConfigurationError,
    Patient,
    Request,
    Settings,
    StoreUnavailable,
    UnknownCallback,
    secret,
)
from huey_patient.client import MAX_REQUEST_BYTES
from huey_patient.stores.base import Counts


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def patient(desk):
    return desk.patient


# Making one


def test_it_attaches_itself_to_its_huey(desk, patient):
    assert desk.huey.patient is patient
    assert desk.huey.create_consumer.__self__ is patient._carriage


def test_settings_are_given_whole_or_one_by_one():
    def huey():
        return MemoryHuey(uuid.uuid4().hex, immediate=False)

    assert Patient(huey(), max_connections=7).settings.max_connections == 7
    assert Patient(huey(), Settings(max_connections=8)).settings.max_connections == 8
    with pytest.raises(ConfigurationError, match="not both"):
        Patient(huey(), Settings(), max_connections=7)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_conections": 7}, "no setting 'max_conections'"),
        ({"max_connections": 0}, "max_connections must be a positive integer"),
        ({"encryption_key": "short"}, "encryption_key"),
        ({"heartbeat_interval": 30}, "orphan_threshold"),
    ],
)
def test_a_wrong_setting_attaches_nothing(options, complaint):
    huey = MemoryHuey(uuid.uuid4().hex, immediate=False)

    with pytest.raises(ConfigurationError, match=complaint):
        Patient(huey, **options)

    assert not hasattr(huey, "patient")
    assert huey._registry._registry == {}
    assert Patient(huey)  # The next attempt is not in the way of the first.


def test_a_huey_has_one_patient(desk):
    with pytest.raises(ConfigurationError, match="has a Patient already"):
        Patient(desk.huey)


@pytest.mark.parametrize("kind", [FileHuey, BlackHoleHuey])
def test_a_storage_that_cannot_hold_requests_is_refused(kind, tmp_path):
    options = {"path": str(tmp_path)} if kind is FileHuey else {}
    huey = kind("q", immediate=False, **options)

    with pytest.raises(ConfigurationError, match="SqliteHuey"):
        Patient(huey)
    assert not hasattr(huey, "patient")


def test_an_application_that_only_submits_loads_no_http_client():
    code = (
        "import sys; from huey import MemoryHuey; from huey_patient import Patient\n"
        "Patient(MemoryHuey(immediate=False)).get('http://example.com/')\n"
        "assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


# Submitting


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete", "head", "options"])
def test_each_verb_stores_a_request_and_returns_its_result(desk, patient, verb):
    result = getattr(patient, verb)(URL, headers={"X-A": "1"}, callback_args={"a": 1})

    assert isinstance(result, Result)
    submission = desk.submission(result.id)
    assert (submission.request.method, submission.request.url) == (verb.upper(), URL)
    assert submission.request.headers["x-a"] == "1"
    assert submission.callback_args == {"a": 1}
    assert patient.pending_count() == 1


def test_every_option_is_stored(desk, patient):
    result = patient.request(
        "post",
        URL,
        params={"a": 1},
        json={"b": [2]},
        timeout=7,
        max_redirects=2,
        raise_error_responses=True,
        retries=5,
        retry_statuses=[503],
    )

    request = desk.submission(result.id).request
    assert request.url == URL + "&a=1"
    assert request.body == b'{"b":[2]}'
    assert (request.timeout, request.max_redirects, request.retries) == (7.0, 2, 5)
    assert request.raise_error_responses is True
    assert request.retry_statuses == {503}


def test_a_request_that_was_made_before_is_executed(desk, patient):
    request = Request("PUT", URL, body=b"body")

    first, second = patient.execute(request), patient.execute(request)

    assert first.id != second.id
    assert desk.submission(first.id).request == request


def test_ids_are_new_unless_given(patient):
    assert len({patient.get(URL).id for _ in range(50)}) == 50
    assert patient.get(URL, id="order-7").id == "order-7"


def test_submitting_an_id_again_stores_nothing_new(desk, patient):
    patient.get(URL, id="a")
    patient.get("http://other.example/", id="a")

    assert patient.pending_count() == 1
    assert desk.submission("a").request.url == URL
    desk.answer("a")
    patient.get(URL, id="a")
    assert patient.pending_count() == 0


def test_delay_and_eta_keep_a_request_back(patient):
    patient.get(URL, delay=3600)
    patient.get(URL, delay=datetime.timedelta(hours=1))
    patient.get(URL, eta=datetime.datetime.now() + datetime.timedelta(hours=1))
    patient.get(URL, eta=datetime.datetime(2000, 1, 1))
    patient.get(URL, delay=0)

    assert patient.store.counts() == Counts(fresh=2, suspect=0, later=3, held=0)
    assert patient.pending_count() == 5


def test_expires_is_stored_as_a_moment(desk, patient):
    before = time.time()
    result = patient.get(URL, expires=10)

    assert before + 10 <= desk.submission(result.id).expires <= time.time() + 10


def test_a_priority_reaches_the_message_of_the_callback():
    desk = Desk(callback_priority=3)
    own, default = desk.patient.get(URL, priority=7), desk.patient.get(URL)
    for result in (own, default):
        desk.answer(result.id)

    tasks = {task.id: task.priority for task in desk.huey.pending()}
    assert tasks == {own.id: 7, default.id: 3}


def test_a_priority_is_refused_where_huey_knows_none(patient, desk, monkeypatch):
    monkeypatch.setattr(desk.huey.storage, "priority", False)

    with pytest.raises(ValueError, match="PriorityRedisHuey"):
        patient.get(URL, priority=5)
    assert desk.stored() == 0


def refusals():
    """Everything wrong that a call may hold: (options, the error, a part of its text)."""
    long = "x" * 70_000
    return [
        ({"method": "TRACE"}, ValueError, "method must be one of"),
        ({"method": 5}, ValueError, "method must be one of"),
        ({"url": None}, ValueError, "url is required"),
        ({"url": ""}, ValueError, "url is required"),
        ({"url": 5}, TypeError, "must be a string or a URL object, got int"),
        ({"url": "/relative"}, ValueError, "must begin with http"),
        ({"url": "ftp://example.com/"}, ValueError, "must begin with http"),
        ({"url": "file:///etc/passwd"}, ValueError, "must begin with http"),
        ({"url": "http://u:p@example.com/"}, ValueError, "user name or password"),
        ({"url": "http://example.com/\r\nX: y"}, ValueError, "url has"),
        ({"url": "http://example.com/\0"}, ValueError, "url has"),
        ({"url": "http://example.com/" + long}, ValueError, "characters"),
        ({"url": "http://example.com:0/"}, ValueError, "port"),
        ({"url": "http:///path"}, ValueError, "host"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, ValueError, "X-A|x-a"),
        ({"headers": {"X-A": "a\0"}}, ValueError, "X-A|x-a"),
        ({"headers": {"X A": "a"}}, ValueError, "header"),
        ({"headers": {"X-A": 5}}, TypeError, "must be a string, got int"),
        ({"headers": {f"X-{n}": "a" for n in range(1000)}}, ValueError, "1000 headers"),
        ({"json": {}, "body": b"b"}, ValueError, "not both"),
        ({"json": {"a": math.nan}}, ValueError, "JSON cannot express"),
        ({"json": {"a": object()}}, TypeError, "JSON"),
        ({"body": {"a": 1}}, TypeError, "body must be str or bytes, got dict"),
        ({"method": "GET", "body": "b"}, ValueError, "not allowed for GET"),
        ({"method": "DELETE", "body": "b"}, ValueError, "not allowed for DELETE"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": math.inf}, ValueError, "timeout"),
        ({"timeout": "5"}, TypeError, "timeout"),
        ({"max_redirects": -1}, ValueError, "max_redirects"),
        ({"max_redirects": 1.5}, ValueError, "max_redirects"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": "always"}, ValueError, "retries"),
        ({"retry_statuses": [200]}, ValueError, "retry_statuses"),
        ({"raise_error_responses": "yes"}, TypeError, "raise_error_responses"),
        ({"proxy_url": "socks5://example.com"}, ValueError, "proxy_url"),
        ({"preprocessors": "sign"}, ConfigurationError, "no preprocessor 'sign'"),
        ({"preprocessors": [""]}, ValueError, "preprocessor"),
        ({"callback": "Nobody"}, UnknownCallback, "'Nobody' is not registered"),
        ({"callback": 5}, TypeError, "callback cannot be"),
        ({"callback_args": [1]}, TypeError, "must be a mapping"),
        ({"callback_args": {"a": {1}}}, TypeError, "got set"),
        ({"callback_args": {"a": b"b"}}, TypeError, "got bytes"),
        ({"callback_args": {"a": math.nan}}, ValueError, "JSON cannot express"),
        ({"callback_args": {"a": 2**64}}, ValueError, "64 bits"),
        ({"callback_args": {1: 1}}, TypeError, "must be strings"),
        ({"callback_args": {"a": long}}, ValueError, "at most 65536"),
        ({"callback_args": {"a": "\ud800"}}, ValueError, "cannot be written"),
        ({"id": "a b"}, ValueError, "id must be"),
        ({"id": 5}, ValueError, "id must be"),
        ({"priority": "high"}, TypeError, "priority"),
        ({"delay": -1}, ValueError, "delay"),
        ({"delay": "1"}, TypeError, "delay"),
        ({"delay": 1, "eta": datetime.datetime(2030, 1, 1)}, ValueError, "not both"),
        ({"expires": -1}, ValueError, "expires"),
        ({"expires": "soon"}, TypeError, "expires"),
        ({"tiemout": 5}, TypeError, "unknown option 'tiemout'"),
        ({"body": b"x" * (MAX_REQUEST_BYTES + 1)}, ValueError, "16777216"),
    ]


def _name(value):
    return "-".join(value) if isinstance(value, dict) else ""


@pytest.mark.parametrize(("options", "kind", "text"), refusals(), ids=_name)
def test_what_is_wrong_is_refused_at_the_call_and_nothing_is_stored(desk, options, kind, text):
    options = {"method": "POST", "url": URL, **options}

    with pytest.raises(kind, match=text):
        desk.patient.request(**options)

    assert desk.stored() == 0
    assert desk.huey.pending_count() == 0


def test_execute_takes_requests_and_submit_options_only(desk, patient):
    with pytest.raises(TypeError, match="takes a Request, got str"):
        patient.execute(URL)
    with pytest.raises(TypeError, match="unknown option 'timeout'"):
        patient.execute(Request("GET", URL), timeout=5)

    assert desk.stored() == 0


def test_a_store_that_is_away_says_so(tmp_path):
    huey = SqliteHuey("q", filename=str(tmp_path / "huey.db"), immediate=False)
    patient = Patient(huey)
    patient.get(URL)
    patient.store.close()
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "huey.db").write_bytes(b"this is no database, and long enough to see it" * 100)

    with pytest.raises(StoreUnavailable):
        patient.get(URL)
    patient.store.close()
    huey.storage.close()


# A bound client


@pytest.fixture
def client(desk):
    @desk.patient.callback
    def save(outcome): ...

    @desk.patient.callback
    def other(outcome): ...

    return desk.patient.client(
        base_url="https://api.example.com/v1/",
        headers={"X-Key": "k", "X-A": "template"},
        params={"locale": "en"},
        timeout=30,
        callback=save,
        callback_args={"from": "client"},
    )


def test_a_bound_client_submits_what_its_template_makes(desk, client):
    assert isinstance(client, BoundClient)
    result = client.get("users/1", params={"page": 2}, headers={"x-a": "call"})

    submission = desk.submission(result.id)
    request = submission.request
    assert request.url == "https://api.example.com/v1/users/1?locale=en&page=2"
    assert (request.headers["x-key"], request.headers["x-a"]) == ("k", "call")
    assert request.timeout == 30.0
    assert submission.callback_args == {"from": "client"}
    assert "save" in result.task.name


def test_what_the_call_says_wins_over_the_client(desk, client):
    result = client.post("users", timeout=5, callback="other", callback_args={"from": "call"})

    submission = desk.submission(result.id)
    assert submission.request.timeout == 5.0
    assert submission.callback_args == {"from": "call"}
    assert result.task.name == "other"


def test_no_call_changes_the_client(desk, client):
    client.get("a", params={"locale": "de"}, headers={"X-Key": "other"}, callback_args={})
    result = client.get("b")

    submission = desk.submission(result.id)
    assert submission.request.url.endswith("/b?locale=en")
    assert submission.request.headers["x-key"] == "k"
    assert submission.callback_args == {"from": "client"}


@pytest.mark.parametrize(
    "options",
    [
        {"callback": "Nobody"},
        {"callback_args": {"a": {1}}},
        {"base_url": "ftp://example.com"},
        {"headers": {"X": "\n"}},
        {"timeout": -1},
        {"unknown": 1},
    ],
    ids=_name,
)
def test_what_is_wrong_with_a_client_is_refused_when_it_is_made(patient, options):
    with pytest.raises((ValueError, TypeError)):
        patient.client(**options)


def test_what_is_wrong_with_a_call_of_a_client_is_refused(desk, client):
    for options in ({"tiemout": 5}, {"callback": "Nobody"}, {"timeout": 0}, {"id": "a b"}):
        with pytest.raises((ValueError, TypeError)):
            client.get("a", **options)

    assert desk.stored() == 0


# Secrets


def test_the_value_of_a_secret_is_not_stored(desk, patient):
    patient.register_secret("key", "s3cr3t-value")
    result = patient.post(URL, headers={"X-Key": secret("key")}, json={"k": secret("key")})

    sealed = patient.store.read(result.id)
    assert b"s3cr3t-value" not in sealed
    assert "s3cr3t-value" not in repr(patient.__dict__.keys())
    assert patient._carriage.secrets(sealed) == b'{"key":{"value":"s3cr3t-value","hosts":[]}}'


def test_a_function_is_asked_each_time_and_its_answer_is_text(patient):
    values = iter([1, 2])
    patient.register_secret("key", lambda: next(values))
    sealed = patient.store.read(patient.get(URL, headers={"X-Key": secret("key")}).id)

    assert patient._carriage.secrets(sealed) == b'{"key":{"value":"1","hosts":[]}}'
    assert patient._carriage.secrets(sealed) == b'{"key":{"value":"2","hosts":[]}}'


def test_a_secret_that_cannot_be_had_is_left_out_and_named_in_the_log(patient, caplog):
    def fail():
        raise RuntimeError("s3cr3t-value")

    patient.register_secret("failing", fail)
    headers = {"X-A": secret("failing"), "X-B": secret("unknown")}
    sealed = patient.store.read(patient.get(URL, headers=headers).id)

    assert patient._carriage.secrets(sealed) == b"{}"
    assert "'failing' cannot be resolved: RuntimeError" in caplog.text
    assert "'unknown', which is not registered" in caplog.text
    assert "s3cr3t-value" not in caplog.text


def test_a_request_without_secrets_resolves_none(patient):
    patient.register_secret("key", lambda: 1 / 0)
    sealed = patient.store.read(patient.get(URL).id)

    assert patient._carriage.secrets(sealed) == b""


def test_the_hosts_of_a_secret_go_where_its_value_goes(patient):
    patient.register_secret("key", "v", hosts=["api.test", "*.api.test"])
    sealed = patient.store.read(patient.get(URL, headers={"X-Key": secret("key")}).id)

    assert patient._carriage.secrets(sealed) == (
        b'{"key":{"value":"v","hosts":["api.test","*.api.test"]}}'
    )


@pytest.mark.parametrize(
    "hosts", ["api.test", ["http://api.test"], ["api.test:80"], ["api.*"], ["*"], [""], [None], [7]]
)
def test_a_host_of_a_secret_is_a_name_or_all_below_one(patient, hosts):
    with pytest.raises(ValueError, match="hosts of secret 'key'"):
        patient.register_secret("key", "v", hosts=hosts)


def test_a_secret_that_has_no_utf8_form_is_left_out(patient, caplog):
    patient.register_secret("key", "s3cr3t\ud800")
    sealed = patient.store.read(patient.get(URL, headers={"X-Key": secret("key")}).id)

    assert patient._carriage.secrets(sealed) == b"{}"
    assert "s3cr3t" not in caplog.text


def test_the_registered_secrets_are_not_shown(patient):
    patient.register_secret("key", "s3cr3t")

    assert repr(patient._secrets) == "SecretValues('key')"
    assert "s3cr3t" not in repr(patient._secrets._known)


@pytest.mark.parametrize(
    ("name", "value"), [("", "v"), (None, "v"), (5, "v"), ("a", ""), ("a", None)]
)
def test_a_secret_has_a_name_and_a_value(patient, name, value):
    with pytest.raises(ValueError, match="secret"):
        patient.register_secret(name, value)


# Looking and steering


def test_cancel_answers_a_waiting_request_once(desk, patient):
    told = []
    patient.callback(canceled := lambda outcome: told.append(outcome.kind))
    result = patient.get(URL, callback=canceled)

    assert patient.cancel(result.id) is True
    assert patient.cancel(result.id) is False
    assert desk.work() == 1
    assert told == ["canceled"]
    assert patient.pending_count() == 0


def test_cancel_answers_a_delayed_and_a_held_request(desk, patient):
    delayed, held = patient.get(URL, delay=3600), patient.get(URL)
    desk.lease(held.id)

    assert patient.cancel(delayed.id)
    assert patient.cancel(held.id)
    assert desk.huey.pending_count() == 2
    assert desk.stored() == 0


def test_cancel_of_an_answered_or_unknown_request_does_nothing(desk, patient):
    result = patient.get(URL)
    desk.answer(result.id)

    assert patient.cancel(result.id) is False
    assert patient.cancel("unknown") is False
    assert desk.huey.pending_count() == 1


def test_what_is_where_can_be_seen(desk, patient):
    def counted():
        stats = patient.stats()
        names = ("fresh", "suspect", "later", "held", "processes")
        return tuple(stats[name] for name in names)

    patient.get(URL, delay=3600)
    held = patient.get(URL)
    assert counted() == (1, 0, 1, 0, 0)
    desk.lease(held.id)

    assert counted() == (0, 0, 1, 1, 1)
    assert patient.in_flight() == [{"id": held.id, "owner": "desk", "epoch": 1, "strikes": 0}]
    assert patient.processes() == [{"id": "desk", "held": 1}]


def test_quiet_needs_a_consumer_in_this_process(desk, patient):
    with pytest.raises(RuntimeError, match="SIGTSTP"):
        patient.quiet()
    desk.huey.create_consumer()
    with pytest.raises(RuntimeError, match="SIGTSTP"):
        patient.quiet()  # Made, but not running.


def test_the_store_follows_immediate_mode(desk, patient):
    patient.get(URL)
    assert patient.pending_count() == 1

    desk.huey.immediate = True
    assert patient.pending_count() == 0
    desk.huey.immediate = False
    assert patient.store is patient.store
