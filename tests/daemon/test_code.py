"""The digest of the code: of names and contents, and of nothing that Python writes beside them."""

from __future__ import annotations

from pathlib import Path

import hived
import hived_client
from hived.daemon.code import digest, own_code


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    module = tmp_path / "package/module.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    first = digest(str(tmp_path))
    (module.parent / "__pycache__").mkdir()
    (module.parent / "__pycache__/module.pyc").touch()
    module.touch()
    assert digest(str(tmp_path)) == first
    module.write_text("a = 2\n")
    second = digest(str(tmp_path))
    module.rename(module.with_name("other.py"))
    assert len({first, second, digest(str(tmp_path))}) == 3


def test_both_packages_are_the_code() -> None:
    assert own_code() == digest(*hived.__path__, *hived_client.__path__)
