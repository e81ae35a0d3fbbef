"""Every family of models, by the pipeline that a model's folder names."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from darkroom_sampling import families
from darkroom_sampling.family import Family


@cache
def known_families() -> Mapping[str, Family]:
    """Each module of `families`."""
    names = [module.name for module in pkgutil.iter_modules(families.__path__)]
    found: list[Family] = [
        importlib.import_module(f"{families.__name__}.{name}").FAMILY for name in names
    ]
    return {family.pipeline: family for family in found}
