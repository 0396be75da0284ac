"""What is wrong, on the screen of ``hived status`` and in its JSON."""

from __future__ import annotations

from hived.cli.document import world_document
from hived.cli.screen import status_lines
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import World

OTHER = fault("daemon.other_version", version="0.0.1", ours="0.1.0", pid=7)
FULL = fault("disk.full", path="/run/user/1000/hived/v1")
BROKEN = fault("configuration.broken", path="/c.json", line=1, column=2, why="no comma")


def test_what_only_the_client_can_tell_stands_before_what_the_daemon_knows(where: Places) -> None:
    world = World(generation=1, problems=(BROKEN,))
    known = Known(world=world, verdict="fresh", age=0.1, places=where, problem=FULL, notes=(OTHER,))
    text = "\n".join(status_lines(known, 0))
    wanted = (FULL.message, FULL.hint, "problems", OTHER.message, OTHER.hint, BROKEN.message, BROKEN.hint)
    places = [text.index(each) for each in wanted]
    assert places == sorted(places)
    assert world_document(known)["problems"] == [FULL, OTHER, BROKEN]


def test_where_nothing_is_wrong_nothing_is_said_of_it(where: Places) -> None:
    known = Known(world=World(generation=1), verdict="fresh", age=0.1, places=where)
    assert "problems" not in status_lines(known, 0)
    assert world_document(known)["problems"] == []
