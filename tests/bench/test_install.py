"""Peers are installed, or named with the command that installs them."""

import os
import shutil
from pathlib import Path

import pytest

from tests.bench import install
from tests.bench.errors import MachineError
from tests.bench.install import Package

PRESENT = Package("coreutils", "true")
MISSING = Package("example-pkg", "no-such-program")


def no_progress(_line: str) -> None: ...


def test_nothing_is_installed_when_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "apt_get", lambda *_arguments: pytest.fail("it ran"))
    install.ensure([PRESENT], no_progress)


def test_without_root_the_message_is_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: "/bin/apt-get" if name == "apt-get" else None
    )
    with pytest.raises(MachineError, match="run: sudo apt-get install --no-install-recommends example-pkg"):
        install.ensure([MISSING], no_progress)


def test_without_apt_the_message_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, path=None: None)
    with pytest.raises(MachineError, match="not installed: example-pkg"):
        install.ensure([MISSING], no_progress)


def test_an_installation_that_brings_no_program_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(install, "apt_get", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(install, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: "/bin/apt-get" if name == "apt-get" else None
    )
    with pytest.raises(MachineError, match="yet there is no no-such-program"):
        install.ensure([MISSING], no_progress)
    assert asked == [("update",), ("install", "--yes", "--no-install-recommends", "example-pkg")]


def test_services_stay_down_while_packages_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with install.services_held_back(policy):
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text()
    assert not policy.exists()


def test_an_administrators_policy_for_services_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("mine")
    with install.services_held_back(policy):
        assert policy.read_text() == "mine"
    assert policy.read_text() == "mine"


def test_a_failed_installation_is_told_with_what_apt_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a_program(tmp_path / "apt-get", "echo E: no network; exit 100")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MachineError, match=r"(?s)apt-get.*update.*failed with code 100.*E: no network"):
        install.apt_get("update")


def test_a_version_is_taken_from_what_the_program_prints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a_program(tmp_path / "thing", "echo Server version: Thing/2.4.57 '(Debian)'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Package("thing-bin", "thing").version() == "2.4.57"


def a_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
