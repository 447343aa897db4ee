import hashlib
import sqlite3

import pytest

from onnxscape.errors import UsageError
from onnxscape.service.access.tokens import TokenStore
from onnxscape.service.catalog.tables import SCHEMA
from onnxscape.storage.database import Database


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def tokens(path):
    with Database.open(path, SCHEMA) as database:
        yield TokenStore(database)


def test_a_token_is_found_by_its_secret_alone(tokens):
    token, secret = tokens.create("ann", name="laptop")
    tokens.create("bob")
    assert tokens.find(secret) == token
    assert token.user == "ann"
    assert tokens.find(token.id) is None
    assert tokens.find("") is None


def test_secrets_have_256_random_bits_and_a_prefix(tokens):
    secrets = {tokens.create("ann")[1] for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        assert secret.startswith("onnxscape_")
        assert len(secret.removeprefix("onnxscape_")) == 43


def test_secrets_are_nowhere_in_the_file(tokens, path):
    _, secret = tokens.create("ann")
    stored = sqlite3.connect(path)
    ((kept,),) = stored.execute("SELECT hash FROM tokens").fetchall()
    stored.close()
    assert kept == hashlib.sha256(secret.encode()).hexdigest()
    for file in path.parent.iterdir():
        assert secret.removeprefix("onnxscape_").encode() not in file.read_bytes()


def test_states_follow_from_times(tokens):
    forever, _ = tokens.create("ann")
    short, _ = tokens.create("ann", seconds=10)
    assert forever.state(1e12) == "active"
    assert short.state(short.created + 9.9) == "active"
    assert short.state(short.created + 10) == "expired"
    assert tokens.revoke(short.id).state(short.created) == "revoked"


def test_a_token_that_is_revoked_twice_was_revoked_the_first_time(tokens):
    token, secret = tokens.create("ann")
    first = tokens.revoke(token.id)
    assert tokens.revoke(token.id) == first == tokens.find(secret)
    with pytest.raises(UsageError, match="'none', which is none"):
        tokens.revoke("none")


def test_use_is_noted_to_a_minute(tokens):
    token, secret = tokens.create("ann")
    assert token.used is None
    tokens.note_use(token)
    used = tokens.find(secret).used
    assert used >= token.created
    tokens.note_use(token)
    assert tokens.find(secret).used == used


@pytest.mark.parametrize("user", ["", "a b", "-x", "../x", "a/b", "a" * 101, "ann\n", "ö"])
def test_names_of_users_are_plain(tokens, user):
    with pytest.raises(UsageError, match="expected the name of a user"):
        tokens.create(user)
    assert tokens.tokens() == []


def test_another_process_sees_what_is_revoked_at_once(tokens, path):
    token, secret = tokens.create("ann")
    with Database.open(path, SCHEMA) as database:
        other = TokenStore(database)
        assert other.find(secret).revoked is None
        tokens.revoke(token.id)
        assert other.find(secret).revoked is not None
