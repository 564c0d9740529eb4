"""What people's judgements say of each other: agreement, a figure or two about each person, warnings in words. Pure."""

from ml_backend.people.agreement import Votes, votes_on
from ml_backend.people.document import people_document

__all__ = ["Votes", "people_document", "votes_on"]
