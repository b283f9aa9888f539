"""What the gateway lets others see: pages of other sites, who listens on the line, and who reads its logs and pages."""

import json
import logging
import ssl
import subprocess

import aiohttp
import pytest
from api_server import MODEL, api_server
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.gateway.body import MAX_DEPTH, depth_of
from outrider.gateway.config import GatewayConfig
from outrider.gateway.tls import tls_context
from outrider.gateway.toml_file import ConfigError
from outrider.telemetry.logs import JsonFormatter, TextFormatter

ORIGIN = "https://app.example.com"
SECRET = "sk-very-secret-key-of-mine"
CONTENT = "xylophones-in-the-prompt"
GOOD = {"model": MODEL, "prompt": "a", "max_tokens": 2}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-keyout", "key.pem", "-out", "certificate.pem", "-days", "2", "-subj", "/CN=a"]
    subprocess.run([*make, "-addext", "subjectAltName=IP:127.0.0.1"], cwd=folder, check=True, capture_output=True)
    return folder


async def test_pages_of_other_sites_may_read_nothing_by_default() -> None:
    """Not even the preflight is answered."""
    async with api_server() as server, aiohttp.ClientSession(server.url) as session:
        ask = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        async with session.options("/v1/completions", headers=ask) as preflight:
            assert 405 == preflight.status
        async with session.post("/v1/completions", json=GOOD, headers={"Origin": ORIGIN}) as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(("origin", "is_allowed"), [(ORIGIN, True), ("https://app.example.com.evil.org", False)])
async def test_a_page_of_an_origin_that_is_named_may_read(origin, is_allowed) -> None:
    """Answers, streams and errors; the preflight needs no key."""
    allowed = origin if is_allowed else None
    config = {"cors_origin": [ORIGIN], "api_key": SECRET}
    key = {"Authorization": f"Bearer {SECRET}", "Origin": origin}
    async with api_server(**config) as server, aiohttp.ClientSession(server.url) as session:
        ask = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with session.options("/v1/completions", headers=ask) as preflight:
            assert (204 if is_allowed else 401) == preflight.status
            assert allowed == preflight.headers.get("Access-Control-Allow-Origin")
        for body, headers in ((GOOD, key), ({**GOOD, "stream": True}, key), (GOOD, {"Origin": origin})):
            async with session.post("/v1/completions", json=body, headers=headers) as answer:
                assert allowed == answer.headers.get("Access-Control-Allow-Origin")
                assert "Origin" == answer.headers["Vary"]


@pytest.mark.parametrize("origin", ["*", "example.com", "https://example.com/", "null", "HTTPS://example.com"])
def test_an_origin_is_written_as_browsers_write_it(origin) -> None:
    """Else it would never match, or match all."""
    with pytest.raises(ValueError, match=r"cors_origin must be like https://example.com"):
        GatewayConfig(cors_origin=[origin])


async def test_https_with_the_files_of_the_configuration(certificate) -> None:
    """TLS 1.2 and newer."""
    files = {"tls_certificate": certificate / "certificate.pem", "tls_key": certificate / "key.pem"}
    trust = ssl.create_default_context(cafile=certificate / "certificate.pem")
    async with api_server(**files) as server, aiohttp.ClientSession(server.url) as session:
        async with session.post("/v1/completions", json=GOOD, ssl=trust) as answer:
            assert 200 == answer.status
        assert ssl.TLSVersion.TLSv1_2 == tls_context(server.gateway.config).minimum_version


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tls_key": "certificate.pem"}, "are no pair of PEM files"),
        ({"tls_key": "nowhere.pem"}, r"tls_key .*nowhere.pem cannot be read: No such file"),
        ({"tls_certificate": "key.pem"}, "are no pair of PEM files"),
        ({"tls_key": None}, "tls_certificate needs tls_key beside it"),
    ],
)
def test_files_that_cannot_be_used_are_told_at_start(certificate, change, told) -> None:
    """By the name of the setting."""
    names = {"tls_certificate": "certificate.pem", "tls_key": "key.pem"} | change
    with pytest.raises((ConfigError, ValueError), match=told):
        tls_context(GatewayConfig(**{setting: name and certificate / name for setting, name in names.items()}))


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
async def test_a_log_line_tells_of_each_request_and_nothing_that_was_said(formatter, caplog) -> None:
    """Its id, route, status and time; no key, no prompt, no answer, no path that leads nowhere."""
    caplog.set_level(logging.DEBUG, "outrider")
    headers = {"Authorization": f"Bearer {SECRET}", "x-request-id": "my-own-id"}
    body = {**GOOD, "prompt": CONTENT}
    async with api_server(api_key=SECRET) as server, aiohttp.ClientSession(server.url, headers=headers) as session:
        for path, sent in (
            ("/v1/completions", body),
            ("/v1/completions", {**body, "stream": True}),
            ("/v1/completions", {**body, CONTENT: 1}),
            ("/tokenize", {"prompt": CONTENT}),
            (f"/{CONTENT}", {}),
        ):
            async with session.post(path, json=sent) as answer:
                assert "my-own-id" == answer.headers["x-request-id"]

    lines = [formatter.format(record) for record in caplog.records if record.name == "outrider.gateway.requests"]
    assert 5 == len(lines)
    assert all("my-own-id" in line for line in lines)
    assert [200, 200, 400, 200, 404] == [record.status for record in caplog.records if hasattr(record, "status")]
    assert not any(secret in caplog.text + "".join(lines) for secret in (SECRET, CONTENT))


async def test_pages_for_operators_hold_no_secret() -> None:
    """Whatever clients sent before: no key, no content, no label that a client chose."""
    async with api_server(api_key=SECRET) as server, aiohttp.ClientSession(server.url) as session:
        headers = {"Authorization": f"Bearer {SECRET}", "x-request-id": CONTENT, "User-Agent": CONTENT}
        for body in ({**GOOD, "prompt": CONTENT, "user": CONTENT, "cache_salt": CONTENT}, {**GOOD, "model": CONTENT}):
            await (await session.post("/v1/completions", json=body, headers=headers)).read()
        await (await session.get(f"/{CONTENT}", headers=headers)).read()
        pages = [await (await session.get(path)).text() for path in ("/metrics", "/openapi.json", "/version", "/ready")]
        wrong = await session.get("/v1/models", headers={"Authorization": f"Bearer {SECRET}x"})
        pages.append(await wrong.text())

    assert 401 == wrong.status
    assert not any(secret in page for page in pages for secret in (SECRET, CONTENT))


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.text('[]{}"\\a'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"'), inner),
    )
)
def test_the_depth_of_a_body_is_that_of_its_containers(value) -> None:
    """Brackets in strings do not count."""

    def depth(one: object) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    padding = b"[]," * MAX_DEPTH  # so that it is not simply counted
    body = b"[" + padding + json.dumps(value).encode() + b"]"
    assert max(2, 1 + depth(value)) == depth_of(body)
