"""Who wrote an installed file, and how it differs from what would be written."""

from __future__ import annotations

import pytest

from hived.service.stamp import Stamp, differences, drift, own_stamp, read_stamp
from hived.service.templates import UNITS
from hived_client.vocabulary.services import Supervision

OURS = own_stamp("systemd")


def test_each_manager_has_a_stamp_of_its_own() -> None:
    stamps = {str(own_stamp("systemd")), str(own_stamp("launchd"))}
    assert len(stamps) == len(UNITS)
    assert all(read_stamp(f"# {stamp}\n") is not None for stamp in stamps)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"# {OURS}\n[Unit]", None),
        ("[Unit]\n", "it was not written by hived service install"),
        (f"# {Stamp('0.0.1', OURS.template)}", "hived 0.0.1 wrote it"),
        (f"# {Stamp(OURS.version, '0' * 16)}", "it was made from another template"),
        ("hived \x1b[31m template 0123456789abcdef", "it was not written by hived service install"),
    ],
)
def test_a_file_of_another_version_is_told(text: str, why: str | None) -> None:
    supervision: Supervision = "systemd"
    found = drift("/u/hived.service", text, supervision)
    assert (found and why and why in found.message) or (found is None and why is None)
    if found is not None:
        assert found.hint == "hived service install"


def test_differences_are_the_lines_that_differ() -> None:
    assert differences("a\nb\nc\n", "a\nB\nc\nd\n") == ("-b", "+B", "+d")
    assert differences("a\n", "a\n") == ()
