"""AWS Signature Version 4, as a preprocessor.

    patient.register_preprocessor("lambda", "signing_aws:sign_lambda")
    patient.post("https://….lambda-url.eu-west-1.on.aws/", json={…}, preprocessors="lambda")

Each send is signed anew: a signature is good for five minutes, and the next
attempt may come later than that.  The keys are those of the consumer's environment
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION); no
request holds them.  The I/O process imports this file, so it imports little itself.
"""

import hashlib
import hmac
import os
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit


def sign_lambda(outgoing):
    """For function URLs of AWS Lambda."""
    sign(outgoing, service="lambda")


def sign_s3(outgoing):
    """For objects in S3."""
    sign(outgoing, service="s3")


def sign(outgoing, *, service):
    """Set the headers by which a service of AWS knows who sends what."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(outgoing.body or b"").hexdigest()
    outgoing.headers["X-Amz-Date"] = stamp
    outgoing.headers["X-Amz-Content-Sha256"] = digest
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        outgoing.headers["X-Amz-Security-Token"] = token

    signed = {"host": host_of(outgoing.url)}
    for name, value in outgoing.headers.items():
        if name.lower().startswith("x-amz-") or name.lower() == "content-type":
            signed[name.lower()] = " ".join(value.split())
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    what = [outgoing.method, path_of(outgoing.url, service), query_of(outgoing.url)]
    canonical = "\n".join([*what, *lines, "", names, digest])

    scope = f"{stamp[:8]}/{os.environ['AWS_REGION']}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in [*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"]:
        key = hmac.digest(key, part.encode(), "sha256")
    outgoing.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
        f"SignedHeaders={names}, Signature={key.hex()}"
    )


def host_of(url):
    """The Host header: without the port when it is the usual one."""
    parts = urlsplit(url)
    usual = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.lower().removesuffix(usual)


def path_of(url, service):
    """The path, escaped once more; S3 alone takes it as it is sent."""
    path = urlsplit(url).path or "/"
    return path if service == "s3" else quote(path, safe="/~")


def query_of(url):
    """The parameters in order, all escaped in the one way that AWS computes with."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    escaped = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in escaped)
