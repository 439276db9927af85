"""The signatures of the examples, verified by the libraries of those who check them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from standardwebhooks import Webhook, WebhookVerificationError
from support.programs import EXAMPLES, Program
from support.sending import Naps, send
from support.web import Answer, Asked, WebServer
from yarl import URL

from huey_patient.request import Request

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+b"}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``signing_aws``, with keys in the environment."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name, value in {**KEYS, "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)
    import signing_aws

    return signing_aws


@pytest.fixture
def webhooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``signing_webhooks``, with a key in the environment."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    import signing_webhooks

    return signing_webhooks


def by_botocore(asked: Asked, server: WebServer, service: str, token: str | None = None) -> str:
    """The Authorization that botocore computes for a request as it arrived."""
    names = re.search(r"SignedHeaders=([^,]+)", asked.header("authorization"))[1].split(";")
    url = URL(server.url + asked.target, encoded=True)
    request = AWSRequest(
        asked.method,
        str(url.with_query(None)),
        headers={name: asked.header(name) for name in names},
        params=list(url.query.items()),
        data=asked.body,
    )
    request.context["timestamp"] = asked.header("x-amz-date")
    keys = Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], token)
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(keys, service, "eu-west-1")
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={';'.join(names)}, "
        f"Signature={signer.signature(to_sign, request)}"
    )


@pytest.mark.parametrize("service", ["lambda", "s3"])
@pytest.mark.parametrize(
    ("method", "target", "options"),
    [
        ("GET", "/echo", {}),
        ("GET", "/echo?b=2&a=1&a=0&empty=&flag", {}),
        ("GET", "/echo", {"params": {"q": "a b/c+d~ä", "Z": "~", "a": "="}}),
        ("POST", "/echo", {"json": {"ä": 1}}),
        ("PUT", "/echo/a%20b/~c/x=1;y", {"body": b"\0\xff", "headers": {"X-Amz-Meta": "a  b"}}),
        ("DELETE", "", {}),
    ],
)
def test_botocore_computes_the_same_signature(
    server: WebServer,
    aws: ModuleType,
    service: str,
    method: str,
    target: str,
    options: dict,
) -> None:
    signer = getattr(aws, f"sign_{service}")

    send(Request(method, server.url + target, **options), options={"preprocessors": [signer]})

    [asked] = server.asked
    assert asked.header("authorization") == by_botocore(asked, server, service)
    assert {"host", "x-amz-content-sha256", "x-amz-date"} <= set(
        re.search(r"SignedHeaders=([^,]+)", asked.header("authorization"))[1].split(";")
    )


def test_a_session_token_is_signed_too(
    server: WebServer,
    aws: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token/+=")

    send(Request("GET", server.url + "/echo"), options={"preprocessors": [aws.sign_lambda]})

    [asked] = server.asked
    assert asked.header("x-amz-security-token") == "token/+="
    assert "x-amz-security-token" in asked.header("authorization")
    assert asked.header("authorization") == by_botocore(asked, server, "lambda", "token/+=")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.test/", "a.test"),
        ("https://a.test:443/", "a.test"),
        ("http://a.test:443/", "a.test:443"),
        ("http://a.test:80", "a.test"),
    ],
)
def test_the_host_is_signed_as_it_is_sent(aws: ModuleType, url: str, host: str) -> None:
    assert aws.host_of(url) == host


def test_a_receiver_of_standard_webhooks_verifies_a_message(
    server: WebServer,
    webhooks: ModuleType,
) -> None:
    request = Request("POST", server.url + "/echo", json={"type": "user.created", "ä": 1})

    send(request, options={"preprocessors": [webhooks.sign]}, request_id="msg-1")

    [asked] = server.asked
    receiver = Webhook(SECRET)
    assert receiver.verify(asked.body, dict(asked.headers)) == {"type": "user.created", "ä": 1}
    assert asked.header("webhook-id") == "msg-1"
    with pytest.raises(WebhookVerificationError):
        receiver.verify(asked.body + b" ", dict(asked.headers))


def test_each_attempt_is_signed_at_its_own_time_under_the_same_id(
    server: WebServer,
    naps: Naps,
    webhooks: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter((1_700_000_000.5, 1_700_000_400.0))
    monkeypatch.setattr(webhooks, "time", SimpleNamespace(time=lambda: next(moments)))
    url = server.answer("/x", Answer(503), Answer(200))
    request = Request("POST", url, body="a", retry_statuses={503})

    send(request, naps=naps, options={"preprocessors": [webhooks.sign]})

    first, second = server.asked
    assert first.header("webhook-timestamp") == "1700000000"
    assert second.header("webhook-timestamp") == "1700000400"
    assert second.header("webhook-signature") != first.header("webhook-signature")
    assert second.header("webhook-id") == first.header("webhook-id") == "id-1"


def test_a_signed_request_runs_as_the_example_says(
    call: Callable[..., str],
    consume: Callable[..., Program],
    server: WebServer,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    url = server.answer("/hooks", Answer(503, headers={"retry-after-ms": "1"}), Answer(200))
    call("signed_requests.py", "webhook", url)
    call("signed_requests.py", "lambda", f"{server.url}/echo")
    env |= {"WEBHOOK_SECRET": SECRET, **KEYS, "AWS_REGION": "eu-west-1"}

    consumer = consume("signed_requests.huey", "-w", "2")
    consumer.wait_for("hooks answered 200 to attempt 2")
    consumer.wait_for("executed in")
    consumer.end()

    hooks = [one for one in server.asked if one.path == "/hooks"]
    [signed] = [one for one in server.asked if one.path == "/echo"]
    for asked in hooks:
        assert Webhook(SECRET).verify(asked.body, dict(asked.headers))["data"] == {"id": 7}
    assert len(hooks) == 2
    assert signed.header("authorization") == by_botocore(signed, server, "lambda")
    said = consumer.read_all()
    for key in (SECRET, KEYS["AWS_SECRET_ACCESS_KEY"]):
        assert key not in said
        assert all(key.encode() not in file.read_bytes() for file in tmp_path.glob("signed.db*"))


def test_the_preprocessors_load_nothing_of_the_application(
    aws: ModuleType, webhooks: ModuleType
) -> None:
    for module in (aws, webhooks):
        source = Path(module.__file__).read_text()
        assert "import huey" not in source
        assert "from huey" not in source
    assert "signed_requests" not in sys.modules
