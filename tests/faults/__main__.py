"""``python -m tests.faults`` prints the catalogue as a table; ``--readme`` writes it into the README."""

from __future__ import annotations

import sys

from tests.faults.printing import lines, readme, with_table

if __name__ == "__main__":
    if "--readme" in sys.argv[1:]:
        readme().write_text(with_table(readme().read_text()))
    else:
        print("\n".join(lines()))
