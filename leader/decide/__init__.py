"""Pure decisions: same snapshot, time, settings and rng give the same plan. Nothing here waits or logs."""
