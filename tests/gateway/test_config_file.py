"""What an operator writes: the configuration file, the environment, and the key file through `outrider keys`."""

import json

import pytest
from typer.testing import CliRunner

from outrider.cli.main import app
from outrider.gateway.keys import KeyFileError, Keyring, read_keys
from outrider.gateway.toml_file import TomlFile

RUNNER = CliRunner()


def check(tmp_path, text: str, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and output of `--check-config`, with the file's name left out."""
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    command = ["gateway", "--engine", "unix:/nowhere", "--config", str(path), "--check-config", *arguments]
    done = RUNNER.invoke(app, command, env=env)
    return done.exit_code, done.output.replace(str(path), "FILE").strip()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 80\nprot = 1", "FILE:2: prot: there is no such setting: did you mean `port`?"),
        ('\nport = "80"', "FILE:2: port: expected `int`, got `str`"),
        ("queue_seconds = true", "FILE:1: queue_seconds: expected `float`, got `bool`"),
        ("host = 1", "FILE:1: host: expected `str`, got `int`"),
        ("port = 99999", "FILE:1: port must lie between 0 and 65535, not 99999"),
        ("port = 80\nqueue_requests = 0", "FILE:2: queue_requests must be positive, not 0"),
        ('limits_fallback = "maybe"', "FILE:1: limits_fallback must be one of open, closed, local, not maybe"),
        ('limits = "mongo://x"', "FILE:1: limits must be memory or the address of a Redis"),
        ("port = \n", "FILE:1: this is not TOML: Invalid value"),
        ("port = 80\nport = 81", "FILE:2: this is not TOML: Cannot overwrite a value"),
        (
            "[global_limits]\nconcurrency = 5\nrequests_per_minute = 0",
            "FILE:3: global_limits.requests_per_minute: expected `int` >= 1",
        ),
        (
            '[tenant_limits.a]\n[tenant_limits."b c"]\n\ntokens_per_day = "x"',
            "FILE:4: tenant_limits.b c.tokens_per_day: expected `int | null`, got `str`",
        ),
        (
            "[model_limits.m]\n# none\ntokens = 5",
            "FILE:3: model_limits.m.tokens: there is no such limit: there are requests_per_minute",
        ),
        ("model_limits.m = 5", "FILE:1: model_limits.m: expected `object`, got `int`"),
    ],
)
def test_each_mistake_has_its_line_and_its_key(tmp_path, text, told) -> None:
    """And nothing is started."""
    status, output = check(tmp_path, text)

    assert (1, f"outrider: {told}") == (status, output[: len(told) + 10])
    assert 1 == len(output.splitlines())


def test_all_wrong_settings_are_told_at_once(tmp_path) -> None:
    """Who mends one does not wait for the next."""
    status, output = check(tmp_path, 'port = "a"\n\nnothing = 1')

    assert (1, ["FILE:1", "FILE:3"]) == (status, [line.split()[1].rstrip(":") for line in output.splitlines()])


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path) -> None:
    """Each is told by what it would break."""
    wrong = {"OUTRIDER_PORT": "70000"}

    assert (0, "The configuration is good") == check(tmp_path, "port = 80000", "--port", "80", env=wrong)
    assert "not 70000" in check(tmp_path, "port = 80000", env=wrong)[1]
    assert "FILE:1: port" in check(tmp_path, "port = 80000")[1]


def test_a_good_file_is_good(tmp_path) -> None:
    """With every kind of table."""
    text = """
        host = "127.0.0.1"
        limits = "redis://localhost:6379/0"
        queue_seconds = 5
        [global_limits]
        requests_per_minute = 600
        [tenant_limits.acme]
        tokens_per_day = 1_000_000
        [model_limits."outrider-demo"]
        concurrency = 8
    """

    assert (0, "The configuration is good") == check(tmp_path, text)


def test_places_are_found_in_every_spelling(tmp_path) -> None:
    """Dotted and quoted keys, tables, and what stands in none."""
    (tmp_path / "a.toml").write_text("a.b = 1\n[\"c d\".e]\n'f' = 2\n")
    file = TomlFile(tmp_path / "a.toml")

    assert [1, 3, 2, None] == [
        int(place.rpartition(":")[2]) if ":" in (place := file.place(keys)) else None
        for keys in (["a", "b"], ["c d", "e", "f"], ["c d", "e", "other"], ["x"])
    ]


@pytest.fixture
def keys(tmp_path):
    """Runs `outrider keys` on a file; status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = RUNNER.invoke(app, ["keys", *arguments, "--keys", str(tmp_path / "keys.json")])
        return done.exit_code, done.stdout.strip(), done.stderr.strip()

    return run


def test_a_key_is_made_listed_rotated_and_revoked(keys, tmp_path) -> None:
    """Its secret is shown once, and the file holds none."""
    file = tmp_path / "keys.json"
    _, secret, _ = keys("create", "app", "--tenant", "acme", "--model", "m", "--tokens-per-day", "9", "--priority", "1")
    listed = keys("list")[1]
    assert Keyring(read_keys(file)).find(secret, 0.0).tenant_name == "acme"
    _, renewed, _ = keys("rotate", "app", "--overlap-hours", "1")
    ring, now = Keyring(read_keys(file)), read_keys(file)[0].previous_until
    assert [True, True, False] == [
        ring.find(one, at) is not None for one, at in ((renewed, now), (secret, now - 1), (secret, now))
    ]
    keys("revoke", "app")

    assert Keyring(read_keys(file)).find(renewed, 0.0) is None
    assert "revoked" in keys("list")[1]
    assert "tenant=acme  models=m  tokens_per_day=9  priority=1" in listed
    assert len(secret) >= 40
    assert not any(one in file.read_text() + listed for one in (secret, renewed))
    assert 0o600 == file.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "app"], "there is a key `app` already"),
        (["create", "a b"], "names have letters, digits"),
        (["create", "b", "--tenant", "../x"], "names have letters, digits"),
        (["revoke", "nobody"], "there is no key `nobody`"),
        (["rotate", "gone"], "the key `gone` is revoked"),
    ],
)
def test_a_change_that_cannot_be_is_one_line(keys, tmp_path, arguments, told) -> None:
    """And leaves the file as it was."""
    keys("create", "app")
    keys("create", "gone")
    keys("revoke", "gone")
    before = (tmp_path / "keys.json").read_text()
    status, out, error = keys(*arguments)

    assert (1, "", 1) == (status, out, len(error.splitlines()))
    assert told in error
    assert before == (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"keys": [{"id": "a"}]}', '{"keys": [{"id": "a", "sha256": "secret"}]}', "twice"],
)
def test_a_file_that_holds_no_keys_is_refused_by_its_name(tmp_path, content) -> None:
    """The start fails with it, and no key is silently lost."""
    path = tmp_path / "keys.json"
    one = {"id": "a", "sha256": "0" * 64}
    path.write_text(json.dumps({"keys": [one, one]}) if content == "twice" else content)

    with pytest.raises(KeyFileError, match="this is no key file"):
        read_keys(path)
