"""Versions compared by people: a test that may be looked at any time, a leaderboard, and both simulated. Pure."""

from ml_backend.contest.decision import Contest, decide, no_contest
from ml_backend.contest.leaderboard import Leaderboard, rank_versions
from ml_backend.contest.meetings import Meeting, meetings_in
from ml_backend.contest.names import in_contest, is_joint_name, joint_name, shown_name
from ml_backend.contest.simulation import Simulated, simulate

__all__ = [
    "Contest",
    "Leaderboard",
    "Meeting",
    "Simulated",
    "decide",
    "in_contest",
    "is_joint_name",
    "joint_name",
    "meetings_in",
    "no_contest",
    "rank_versions",
    "shown_name",
    "simulate",
]
