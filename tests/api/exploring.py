"""How a stateful machine is run: until each outcome came often enough, or it is clear that one does not come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from flask import Flask
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

STEPS = 40
ROUNDS_MAX = 6


def explore(machine: type[Any], app: Flask, *, number: int, examples: int) -> Counter[str]:
    """Run the machine with the seed `number`, and return how often each outcome came, by its own count."""
    made = type("Machine", (machine,), {"app": app, "outcomes": Counter()})
    print(f"model: seed {number}, {examples} examples of at most {STEPS} steps")
    options = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(seed(number)(made), settings=options)
    print(sorted(made.outcomes.items()))
    return made.outcomes


def explore_until_all_came(
    machine: type[Any], app: Flask, outcomes: Collection[str], *, number: int, examples: int, at_least: int
) -> Counter[str]:
    """Run the machine, and again while an outcome is too rare: a seed does not make the same examples each time.

    Fails on an outcome that does not come, since a rule that never fires guards nothing.
    """
    came: Counter[str] = Counter()
    for later in range(ROUNDS_MAX):
        came += explore(machine, app, number=number + later, examples=examples)
        if all(came[name] >= at_least for name in outcomes):
            break
    assert {name: came[name] for name in outcomes if came[name] < at_least} == {}
    return came
