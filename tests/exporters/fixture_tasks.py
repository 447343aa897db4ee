"""What the fixtures' networks learn, all of it derived from the digits and a made-up text."""

from __future__ import annotations

import numpy as np

IGNORED = -100
LEVELS = 5
VOCABULARY = 20
CONTEXT = 12


def tokens(x):
    """Return a digit as 64 token ids, one for each pixel and its level: int64 [n, 64]."""
    levels = np.round(x.reshape(len(x), 64) * (LEVELS - 1)).astype(np.int64)
    return levels + LEVELS * np.arange(64)


def regions(x):
    """Return the class of each pixel, 0 to 2 by its brightness: int64 [n, 8, 8].

    The outermost columns do not count.
    """
    image = x.reshape(len(x), 8, 8)
    classes = (image > 0.25).astype(np.int64) + (image > 0.75)
    classes[:, :, [0, -1]] = IGNORED
    return classes


def boxes(x):
    """Return left, top, right and bottom of what is drawn, 0 to 1: float32 [n, 4]."""
    drawn = x.reshape(len(x), 8, 8) > 0.5
    found = []
    for image in drawn:
        columns, rows = np.flatnonzero(image.any(axis=0)), np.flatnonzero(image.any(axis=1))
        found.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return (np.array(found) / 8).astype(np.float32)


def centers(x):
    """Return the center of mass of a digit, -1 to 1: float32 [n, 2]."""
    image = x.reshape(len(x), 8, 8).astype(np.float64)
    place = np.linspace(-1, 1, 8)
    mass = image.sum(axis=(1, 2))
    across, down = image.sum(axis=1) @ place, image.sum(axis=2) @ place
    return np.stack([across / mass, down / mass], axis=1).astype(np.float32)


def properties(y):
    """Return whether a digit is even, large, prime, and has a hole: float32 [n, 4]."""
    sets = ({0, 2, 4, 6, 8}, {5, 6, 7, 8, 9}, {2, 3, 5, 7}, {0, 4, 6, 8, 9})
    return np.array([[digit in members for members in sets] for digit in y.tolist()], "f4")


def text(count, seed):
    """Return made-up sentences and how much of each is there: int64 [n, 12] twice.

    Each token mostly follows from the two before it; 0 fills up what is not there.
    """
    grammar = np.random.default_rng(0)
    follow = grammar.integers(1, VOCABULARY, (VOCABULARY, 4))
    draw = np.random.default_rng(seed)
    ids = np.zeros((count, CONTEXT), dtype=np.int64)
    ids[:, :2] = draw.integers(1, VOCABULARY, (count, 2))
    for place in range(2, CONTEXT):
        sure = follow[ids[:, place - 1], ids[:, place - 2] % 4]
        wild = draw.integers(1, VOCABULARY, count)
        ids[:, place] = np.where(draw.random(count) < 0.85, sure, wild)
    lengths = draw.integers(CONTEXT // 2, CONTEXT + 1, count)
    mask = (np.arange(CONTEXT) < lengths[:, None]).astype(np.int64)
    return ids, mask
