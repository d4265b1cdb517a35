"""Settings that the whole cluster must have in common."""

from dataclasses import replace

import pytest

from sessiond.core.identity import RefusalCode
from sessiond.core.options import Options
from tests.core.world import KEY, World

DIFFERENT = [("quorum", "majority"), ("location", "query")]


@pytest.mark.parametrize(("setting", "value"), DIFFERENT)
def test_a_node_with_other_settings_is_refused_for_good_and_told_which_one(setting, value):
    world = World()
    world.boot("n1", "n2")
    world.create("n1", KEY)
    world.options = replace(Options(), **{setting: value})
    world.boot("n3")
    refusal = world.processes["n3"].refused_for_good
    assert refusal.code is RefusalCode.SETTINGS
    assert refusal.code.is_final
    assert f"n3 with --{setting} {value}" in refusal.detail.replace("runs ", "")
    assert f"--{setting} {getattr(Options(), setting)}" in refusal.detail
    assert world.members("n3") == {"n3"}


@pytest.mark.parametrize(("setting", "value"), DIFFERENT)
def test_the_members_go_on_and_say_who_was_refused(setting, value):
    world = World()
    world.boot("n1", "n2")
    world.options = replace(Options(), **{setting: value})
    world.boot("n3")
    world.run(1.0)
    for name in ("n1", "n2"):
        assert world.machine(name).may_act
        assert world.processes[name].refused_for_good is None
        assert "n3" not in world.members(name)
        assert setting in str(world.logged(name, "join.settings_differ")[0]["detail"])
