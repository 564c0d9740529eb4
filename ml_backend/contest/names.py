"""What a contest is called in Label Studio, and which tasks belong to it."""

from __future__ import annotations

import hashlib
import re

_JOINT = re.compile(r".+-v[0-9]+\+v[0-9]+")


def joint_name(champion: str, challenger: str) -> str:
    """The name that a line's predictions carry while champion and challenger are compared: `rankloop-v3+v5`.

    Label Studio shows the predictions of one name at a time. This one belongs to both, so it tells nobody which of them
    wrote an answer, and open tasks get predictions anew as soon as it changes.
    """
    return f"{champion}+v{challenger.rpartition('-v')[2]}"


def is_joint_name(name: str) -> bool:
    """Whether a prediction's name belongs to two versions, so that it doesn't say who wrote an answer."""
    return _JOINT.fullmatch(name) is not None


def shown_name(champion: str, challenger: str | None) -> str:
    """The name that a line's predictions carry: its champion's, or while that is challenged the joint one."""
    return champion if challenger is None else joint_name(champion, challenger)


def in_contest(key: str, share: float) -> bool:
    """Whether a task's pair sets one answer of the champion against one of the challenger.

    Args:
        key: identifies the task; the same one always gets the same answer.
        share: of all tasks, from 0 to 1.
    """
    digest = hashlib.blake2b(f"contest {key}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64
