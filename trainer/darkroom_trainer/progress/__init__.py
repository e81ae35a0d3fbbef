"""How a run goes: snapshots that rank 0 writes, trackers and metrics that are fed from them."""
