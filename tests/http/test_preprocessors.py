"""Preprocessors, by the whole way: registered, named in a request, run on what leaves."""

import uuid

import pytest
from huey import MemoryHuey
from support import signing
from support.web import Answer

from huey_patient import ConfigurationError, Patient, PreprocessorFailed, secret
from huey_patient.io_process.preprocessors import Preprocessors


@pytest.fixture(autouse=True)
def seen():
    signing.seen.clear()
    return signing.seen


@pytest.fixture
def patient():
    made = Patient(MemoryHuey(uuid.uuid4().hex, immediate=True))
    for name in ("look", "stamp", "sign", "fail", "break_a_header"):
        made.register_preprocessor(name, f"support.signing:{name}")
    return made


@pytest.fixture
def ask(patient):
    """Sends a request and returns its outcome."""
    outcomes = []

    @patient.callback
    def keep(outcome):
        outcomes.append(outcome)

    def ask(method, url, **options):
        patient.request(method, url, callback=keep, **options)
        return outcomes.pop()

    return ask


@pytest.mark.parametrize(
    "function",
    [
        "support.signing",
        "support.signing:nobody",
        "support.nowhere:sign",
        ":sign",
        "support.signing:no_argument",
        "support.signing:two_arguments",
        "support.signing:not_a_function",
        lambda outgoing: None,
        None,
        7,
    ],
)
def test_what_cannot_be_imported_and_called_with_one_argument_is_refused(patient, function):
    with pytest.raises(ConfigurationError):
        patient.register_preprocessor("other", function)


@pytest.mark.parametrize("name", ["", " ", None])
def test_a_preprocessor_needs_a_name(patient, name):
    with pytest.raises(ConfigurationError, match="name"):
        patient.register_preprocessor(name, "support.signing:sign")


def test_a_function_of_a_module_is_registered_by_its_name(patient, ask, server, seen):
    patient.register_preprocessor("itself", signing.look)

    ask("GET", server.url + "/echo", preprocessors="itself")

    assert len(seen) == 1


def test_a_name_that_is_not_registered_is_refused_at_the_call(patient, server):
    with pytest.raises(ConfigurationError, match="'nobody'"):
        patient.get(server.url + "/echo", preprocessors=["look", "nobody"])

    assert server.hits() == 0


def test_a_name_that_the_consumer_does_not_know_is_an_error_that_names_it(patient, ask, server):
    patient._preprocessors["gone"] = "support.signing:gone"

    gone = ask("GET", server.url + "/echo", preprocessors="gone")

    with pytest.raises(PreprocessorFailed, match="no preprocessor 'nobody'"):
        Preprocessors({}).named(["nobody"])
    assert gone.kind == "configuration"
    assert "support.signing:gone" in gone.message
    assert server.hits() == 0


def test_a_preprocessor_sees_what_is_sent_secrets_included(patient, ask, server, seen):
    patient.register_secret("key", "s3cr3t value")

    response = ask(
        "POST",
        server.url + "/echo",
        params={"key": secret("key"), "plain": "1"},
        headers={"X-Key": secret("key", prefix="Bearer ")},
        json={"key": secret("key")},
        preprocessors="look",
        id="id-1",
    )

    [saw] = seen
    assert saw["method"] == "POST"
    assert saw["url"] == f"{server.url}/echo?plain=1&key=s3cr3t+value"
    assert saw["body"] == b'{"key":"s3cr3t value"}'
    assert saw["headers"]["X-Key"] == "Bearer s3cr3t value"
    assert saw["headers"]["X-Request-Id"] == saw["headers"]["Idempotency-Key"] == "id-1"
    assert "User-Agent" in saw["headers"]
    assert "s3cr3t" not in saw["repr"]
    assert "s3cr3t" not in response.url


def test_secrets_among_the_values_of_a_parameter_arrive_in_their_places(patient, ask, server):
    patient.register_secret("key", "s3cr3t value")

    ask("GET", server.url + "/echo", params={"a": ["1", secret("key"), "2"], "b": "3"})
    ask("GET", server.url + "/echo", params=[("a", secret("key")), ("a", "1")])

    targets = [one.target for one in server.asked]
    assert targets == ["/echo?a=1&b=3&a=s3cr3t+value&a=2", "/echo?a=s3cr3t+value&a=1"]


def test_each_sees_what_those_before_it_have_changed(ask, server, seen):
    ask("GET", server.url + "/echo?a=1", preprocessors=["look", "stamp", "look", "stamp"])

    before, after = seen
    assert "X-Stamp" not in before["headers"]
    assert after["headers"]["X-Stamp"] == "1"
    assert after["url"] == before["url"] + "&stamp=a+b%26c"
    [asked] = server.asked
    assert asked.header("x-stamp") == "2"
    assert asked.target == "/echo?a=1&stamp=a+b%26c&stamp=a+b%26c"


def test_a_signature_over_everything_is_right_when_it_arrives(patient, ask, server):
    patient.register_secret("key", "s3cr3t")
    url = server.answer("/x", Answer(503), Answer(307, headers={"Location": "/y?b=2"}))

    response = ask(
        "POST",
        url,
        params={"key": secret("key")},
        json={"a": secret("key")},
        preprocessors=["stamp", "sign"],
        retry_statuses={503},
    )

    assert response.status == 404
    assert response.redirects == (url,)
    assert [one.path for one in server.asked] == ["/x", "/x", "/y"]
    for asked in server.asked:
        expected = signing.signature(
            asked.method, server.url + asked.target, asked.header("x-request-id"), asked.body
        )
        assert asked.header("x-signature") == expected
    assert len({one.header("x-signature") for one in server.asked}) == 2


def test_no_signature_and_no_preprocessor_follows_to_another_origin(ask, server, other, seen):
    back = other.answer("/back", Answer(302, headers={"Location": f"{server.url}/echo"}))
    url = f"{server.url}/redirect?to={back}"

    ask("GET", url, preprocessors=["look", "stamp", "sign"])

    assert len(seen) == 1  # not at the other origin, nor after the way back
    assert [one.header("x-signature") is None for one in server.asked] == [False, True]
    assert other.asked[0].header("x-signature") is None
    assert other.asked[0].header("x-stamp") is None
    assert "stamp" not in other.asked[0].target


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("set_method", "AttributeError"),
        ("set_body", "AttributeError"),
        ("set_url", "AttributeError"),
        ("set_headers", "AttributeError"),
        ("add_bytes", "TypeError"),
        ("add_a_line", "ValueError"),
        ("leave", "SystemExit"),
    ],
)
def test_what_a_preprocessor_may_not_change_it_cannot(patient, ask, server, name, raised):
    patient.register_preprocessor(name, f"support.signing:{name}")

    error = ask("POST", server.url + "/echo", body="x", preprocessors=name)

    assert error.kind == "configuration"
    assert f"a preprocessor raised {raised}" in error.message
    assert server.hits() == 0


def test_what_is_sent_goes_to_the_host_that_was_checked_whatever_was_reached_into(
    patient, ask, server
):
    patient.register_preprocessor("reach_in", "support.signing:reach_in")

    ask("POST", server.url + "/echo", body="x", preprocessors=["reach_in", "stamp"])

    [asked] = server.asked
    assert (asked.method, asked.body, asked.target) == ("POST", b"x", "/echo?stamp=a+b%26c")
    assert asked.header("host") == server.url.removeprefix("http://")


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "SyntaxError"])
def test_a_module_that_fails_to_import_is_a_preprocessor_that_failed(
    patient, ask, server, tmp_path, monkeypatch, error
):
    name = f"failing_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(f"raise {error}('CANARY')")
    monkeypatch.syspath_prepend(tmp_path)
    patient._preprocessors["broken"] = f"{name}:sign"

    outcome = ask("GET", server.url + "/echo", preprocessors="broken")

    assert outcome.kind == "configuration"
    assert f"'{name}:sign' cannot be imported ({error})" in outcome.message
    assert "CANARY" not in outcome.message
    assert server.hits() == 0


@pytest.mark.parametrize("name", ["fail", "break_a_header"])
def test_a_preprocessor_that_fails_ends_the_request_unsent(ask, server, name):
    error = ask("GET", server.url + "/echo?canary", preprocessors=name)

    assert error.kind == "configuration"
    assert "a preprocessor raised ValueError" in error.message
    assert "canary" not in str(error)
    assert server.hits() == 0


def test_what_a_preprocessor_signs_with_is_not_stored(patient, server):
    patient.huey.immediate = False
    result = patient.get(server.url, preprocessors="sign")

    sealed = patient.store.read(result.id)

    assert b"sign" in sealed
    assert signing.KEY not in sealed
    assert b"support.signing" not in sealed
