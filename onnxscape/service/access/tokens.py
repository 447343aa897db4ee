"""Bearer tokens: 256 random bits, of which the server keeps a hash only."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxscape.errors import StorageError, UsageError

if TYPE_CHECKING:
    from onnxscape.storage.database import Database

PREFIX = "onnxscape_"
"""Starts every token, so that people and scanners of secrets know one when they see it."""

_NOTE_STEP = 60.0
"""Seconds between two notes that a token was used."""

_COLUMNS = "id, user, name, created, expires, revoked, used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token, but not the token itself. Times are Unix seconds.

    Attributes:
        id: What it is called when it is revoked; no secret.
        user: Whose calls it makes.
        name: For people: what it is for.
        created: When it was made.
        expires: Until when it is good; None for ever.
        revoked: When it was revoked; None if it was not.
        used: When it was last used, to a minute; None for never.
    """

    id: str
    user: str
    name: str
    created: float
    expires: float | None
    revoked: float | None
    used: float | None

    def state(self, now: float) -> str:
        """Return whether it is good.

        Args:
            now: Unix time.

        Returns:
            `active`, `expired` or `revoked`.
        """
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


class TokenStore:
    """The tokens of a server. The methods may be called from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[str, float] = {}

    def create(
        self, user: str, *, name: str = "", seconds: float | None = None
    ) -> tuple[Token, str]:
        """Make a token.

        Args:
            user: Whose calls it makes.
            name: For people: what it is for.
            seconds: How long it is good; None for ever.

        Returns:
            What is known of it, and the token, which nobody can tell again.

        Raises:
            UsageError: If the user's name cannot be one.
        """
        checked_user(user)
        if len(name) > 200 or not (name.isprintable() or not name):
            raise UsageError(f"expected a name of at most 200 characters, got {name[:80]!r}")
        secret = PREFIX + secrets.token_urlsafe(32)
        now = time.time()
        token = Token(
            id=secrets.token_hex(6),
            user=user,
            name=name,
            created=now,
            expires=None if seconds is None else now + seconds,
            revoked=None,
            used=None,
        )
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO tokens (id, hash, user, name, created, expires)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (token.id, _hash(secret), user, name, token.created, token.expires),
            )
        return token, secret

    def find(self, secret: str) -> Token | None:
        """Return what is known of a token; the caller looks whether it is good.

        Args:
            secret: The token.

        Returns:
            What is known; None if it is none of ours.
        """
        # By the hash: how long the search takes tells nothing of the token.
        query = f"SELECT {_COLUMNS} FROM tokens WHERE hash = ?"  # noqa: S608 - fixed names
        rows = self._database.rows(query, (_hash(secret),))
        return _token(rows[0]) if rows else None

    def note_use(self, token: Token) -> None:
        """Note that a token is used, once a minute; a full disk hinders nobody.

        Args:
            token: Which.
        """
        now = time.time()
        if now - self._noted.get(token.id, 0.0) < _NOTE_STEP:
            return
        self._noted[token.id] = now
        with suppress(StorageError), self._database.writing() as connection:
            connection.execute("UPDATE tokens SET used = ? WHERE id = ?", (now, token.id))

    def revoke(self, identifier: str) -> Token:
        """Make a token good for nothing, from now on.

        Args:
            identifier: Its id.

        Returns:
            What is known of it.

        Raises:
            UsageError: If there is none of that id.
        """
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE id = ?",
                (time.time(), identifier),
            )
        query = f"SELECT {_COLUMNS} FROM tokens WHERE id = ?"  # noqa: S608 - fixed names
        rows = self._database.rows(query, (identifier,))
        if not rows:
            raise UsageError(
                f"expected the id of a token, got {identifier!r}, which is none; "
                "`onnxscape token list` shows them"
            )
        return _token(rows[0])

    def tokens(self) -> list[Token]:
        """Return what is known of all tokens, the oldest first.

        Returns:
            One entry each.
        """
        query = f"SELECT {_COLUMNS} FROM tokens ORDER BY number"  # noqa: S608 - fixed names
        return [_token(row) for row in self._database.rows(query)]


def checked_user(user: str) -> str:
    """Return the name of a user, or refuse it.

    Args:
        user: What was given.

    Returns:
        The same.

    Raises:
        UsageError: If it could not be told apart from others, or not be written down.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", user):
        raise UsageError(
            "expected the name of a user, of at most 100 letters, digits and . _ @ + -, "
            f"got {user[:120]!r}"
        )
    return user


def _hash(secret: str) -> str:
    # Of 256 random bits: nobody can try them all, so that no salt and no slow hash is needed.
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: tuple[Any, ...]) -> Token:
    return Token(**dict(zip(_COLUMNS.split(", "), row, strict=True)))
