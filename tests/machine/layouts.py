"""A computer as it looks on disk: programs, units, agents and applications, below a folder."""

from __future__ import annotations

from pathlib import Path


class Layout:
    """``/`` is ``root``, and the user's home is outside of it, as the environment names it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.home = folder / "home"
        self.root.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """An environment in which no program of the test's own machine is on PATH."""
        return {"HOME": str(self.home), "PATH": str(self.home / "path")}

    def file(self, path: str, text: str = "", *, mode: int = 0o644) -> Path:
        """Write a file; ``~/…`` is in the home, anything else below the root."""
        found = self.home / path[2:] if path.startswith("~/") else self.root / path.lstrip("/")
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text)
        found.chmod(mode)
        return found

    def program(self, path: str) -> Path:
        """Write a program."""
        return self.file(path, "#!/bin/sh\n", mode=0o755)

    def folder(self, path: str) -> Path:
        """Make a folder."""
        found = self.home / path[2:] if path.startswith("~/") else self.root / path.lstrip("/")
        found.mkdir(parents=True, exist_ok=True)
        return found

    def boot_systemd(self) -> None:
        """Have systemd run this computer."""
        self.folder("/run/systemd/system")

    def install_ollama(self) -> None:
        """Do what Ollama's installer for Linux does: a program, and a system unit that runs it."""
        self.boot_systemd()
        self.program("/usr/local/bin/ollama")
        self.file(
            "/etc/systemd/system/ollama.service",
            "[Unit]\nDescription=Ollama Service\n\n[Service]\nExecStart=/usr/local/bin/ollama serve\n"
            "User=ollama\nRestart=always\n\n[Install]\nWantedBy=default.target\n",
        )
