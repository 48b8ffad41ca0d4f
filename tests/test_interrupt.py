"""Ctrl-C while a command is still composing: 130, whatever a library makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest
from compiling import ROOT

from compiler.compose import Composer
from launchers import command, main
from launchers.interrupt import heard, noting
from launchers.listening import listening


def interrupted() -> None:
    """Ctrl-C in the middle of a change in OmegaConf, which raises an error of its own from it."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        None._invalidate_flags_cache()  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["master", "points", "passed-over"])
def test_an_error_that_ctrl_c_became_is_no_problem_of_the_configuration(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = command.compile_sweep

    def compile_sweep(composer: Composer, points: Sequence[Sequence[str]]) -> object:
        try:
            interrupted()
        except AttributeError:
            if place == "points":
                raise
        return compiled(composer, points)

    if place == "master":
        monkeypatch.setattr(Composer, "master", lambda *_: interrupted())
    else:
        monkeypatch.setattr(command, "compile_sweep", compile_sweep)
    assert main.main(ROOT / "config", ["action=plan"]) == 130
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "interrupted: what was measured is kept, the same command goes on from there"
    ]
    assert told.out == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_started_after_a_ctrl_c_that_was_swallowed() -> None:
    with noting():
        with pytest.raises(AttributeError):
            interrupted()
        with pytest.raises(KeyboardInterrupt), listening():
            pytest.fail("it listens for another one")


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noting() as noted:
            os.kill(os.getpid(), signal.SIGINT)
            heard()
        assert not noted.told
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
