"""How busy this machine is with other work."""

import os


def busy() -> str | None:
    """In words, that the machine has more to do than cores (load average of the last minute); else None."""
    cores = os.cpu_count() or 1
    load, _, _ = os.getloadavg()
    return f"the machine is busy (load {load:.0f} on {cores} cores)" if load > cores else None
