"""Lets torch use the CPUs that this process may use."""

import os

import torch


def use_all_cpus() -> None:
    """Undoes Ray's choice of one thread for replicas that ask for less than one CPU."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
