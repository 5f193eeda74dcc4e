"""When the app looks for cyclic garbage: not while somebody works."""

import gc

import pytest

from bitnet_tui.garbage import AtRest


def test_all_objects_are_looked_at_only_in_a_rest(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    now, acted = 0.0, 0.0
    rest = AtRest(lambda: now - acted, lambda: now)

    def after(seconds: float) -> list[str]:
        nonlocal now
        now += seconds
        done.clear()
        rest.look()
        return done

    assert after(2.0) == []
    acted = now
    assert after(2.0) == [], "somebody works"
    assert after(4.0) == ["collect", "freeze"]
    assert after(5.0) == after(60.0) == [], "the same rest"
    acted = now
    assert after(6.0) == ["collect", "freeze"]
    assert after(700.0) == ["unfreeze", "collect", "freeze"], (
        "what was there at an earlier rest may be garbage by now"
    )
    assert after(300.0) == []
    assert after(301.0) == ["unfreeze", "collect", "freeze"]
