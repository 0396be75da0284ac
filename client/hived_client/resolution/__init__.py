"""The question and its answer: can this model be called now, and exactly how? Pure.

``answer(catalogue, question)`` reads nothing but its arguments, so the daemon and its clients give the
same answer from the same World. What depends on the caller (keys in its environment, the age of the
facts) is added by the caller afterwards.
"""

from __future__ import annotations

from hived_client.resolution.answering import answer, concerned
from hived_client.resolution.catalogue import Catalogue, Head, WorldCatalogue, prefixes
from hived_client.resolution.configured import meant
from hived_client.resolution.question import (
    LONGEST_NAME,
    MOST_CONTEXT,
    Answer,
    Question,
    Refusal,
    Target,
)
from hived_client.resolution.refusals import alternatives, fault_fields, refusal_of_state
from hived_client.resolution.targets import DEFAULT_CONTEXT, bind, kind_at, kind_or_common, target_for

__all__ = [
    "DEFAULT_CONTEXT",
    "LONGEST_NAME",
    "MOST_CONTEXT",
    "Answer",
    "Catalogue",
    "Head",
    "Question",
    "Refusal",
    "Target",
    "WorldCatalogue",
    "alternatives",
    "answer",
    "bind",
    "concerned",
    "fault_fields",
    "kind_at",
    "kind_or_common",
    "meant",
    "prefixes",
    "refusal_of_state",
    "target_for",
]
