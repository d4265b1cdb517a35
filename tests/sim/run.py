"""Running seeds: one with its transcript, or a batch with its counts."""

import argparse
import time
from collections import Counter

from tests.sim.plans import PLANS
from tests.sim.promises import Violation
from tests.sim.simulation import Simulation

def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--plan")
    args = parser.parse_args()
    names = [args.plan] if args.plan else list(PLANS)
    seeds = [args.seed] if args.seed is not None else list(range(args.first, args.first+args.seeds))
    total = Counter()
    began = time.perf_counter()
    bad = 0
    for seed in seeds:
        for name in names:
            simulation = Simulation(seed, PLANS[name])
            try:
                simulation.run()
            except Exception as violation:
                print(f"FAILED seed {seed} plan {name} at {simulation.timeline.now:.3f}: {type(violation).__name__} {violation}")
                bad += 1
                if args.seed is not None:
                    again = Simulation(seed, PLANS[name], is_told=True)
                    try:
                        again.run()
                    except Exception as e:
                        print("\n".join(again.book.lines))
                        import traceback; traceback.print_exc()
            total.update(simulation.book.counts)
            if args.seed is not None: print(simulation.book.trace)
    elapsed = time.perf_counter() - began
    for k,v in sorted(total.items()): print(k,v)
    print(f"{elapsed:.1f} s, {total['events']/elapsed:.0f} events/s, bad {bad}")
    return 1 if bad else 0
