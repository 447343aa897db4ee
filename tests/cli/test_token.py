import re
import subprocess
import sys

import pytest


@pytest.fixture
def token(tmp_path):
    """Call `onnxscape token` on a server's folder; return status, stdout and stderr."""

    def call(*arguments, folder=tmp_path / "server"):
        done = subprocess.run(
            [sys.executable, "-m", "onnxscape_cli.main", "token", *arguments,
             "--data-dir", folder],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return call


def test_tokens_are_made_listed_and_revoked(token):
    status, out, err = token("create", "ann", "--name", "laptop", "--expires", "30d")
    assert status == 0
    assert re.fullmatch(r"onnxscape_[A-Za-z0-9_-]{43}\n", out)
    identifier = re.match(r"token (\w+) of ann, expires \d{4}-\d\d-\d\d ", err)[1]
    status, listed, _ = token("list")
    assert status == 0
    assert re.match(rf"{identifier}  active +ann +made .* used never .* laptop\n", listed)
    assert out.strip() not in listed
    status, out, _ = token("revoke", identifier)
    assert (status, out) == (0, f"token {identifier} of ann is revoked\n")
    assert f"{identifier}  revoked" in token("list")[1]


def test_mistakes_are_told_in_a_line(token, tmp_path):
    for arguments, text in (
        (("create", "a b"), "expected the name of a user"),
        (("create", "ann", "--expires", "soon"), "expected --expires as 12h"),
        (("revoke", "none"), "`onnxscape token list` shows them"),
    ):
        status, out, err = token(*arguments)
        assert (status, out) == (2, "")
        assert text in err
        assert err.count("\n") == 1
    status, _, err = token("list", folder=tmp_path / "none")
    assert status == 2
    assert "expected the folder of a server" in err
    assert not (tmp_path / "none").exists()
