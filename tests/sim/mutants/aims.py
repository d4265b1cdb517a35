"""Plans that are aimed at planted bugs: small worlds in which one kind of moment comes again and again."""

from dataclasses import replace

from tests.sim.plans import FAST, Plan

SHORT = Plan(operations_min=0, sessions=3, lasts_s=12.0, haste=0.9, pause_s=1.0, weather_s=0.3)

AIMED = {
    "amid": replace(SHORT, faults=("crash amid",), weather_s=0.1, sessions=5),
    "amid-ends": replace(SHORT, faults=("crash amid",), weather_s=0.1, sessions=5, ending=0.15),
    "late": replace(SHORT, faults=("restart",), pause_s=0.2, clients=5),
    "last-use": replace(
        SHORT,
        faults=("restart", "pause"),
        clients=1,
        haste=0.3,
        options=replace(FAST, idle_timeout_s=1.5, touch_interval_s=1.4),
    ),
    "forks": replace(
        SHORT,
        strict=False,
        nodes=4,
        clients=2,
        faults=("part",),
        lasts_s=25.0,
        options=replace(FAST, copies=3),
    ),
    "pairs": replace(
        SHORT,
        faults=("crash amid", "restart"),
        weather_s=0.15,
        options=replace(FAST, copies=2, reprotect_delay_s=0.05),
    ),
    "stints": replace(SHORT, nodes=3, down_max=1, faults=("crash",), weather_s=0.05, lasts_s=15.0),
    "parts": replace(SHORT, strict=False, faults=("part", "part one way")),
    "cuts": replace(
        SHORT, strict=False, clients=2, faults=("part", "part one way"), options=replace(FAST, copies=2)
    ),
}
