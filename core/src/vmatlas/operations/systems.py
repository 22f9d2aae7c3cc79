"""The memory operations of a system, found among the installed plugins when they are first needed."""

from __future__ import annotations

from vmatlas import registry
from vmatlas.errors import Unsupported
from vmatlas.installed import how_to_install_for
from vmatlas.operations.contract import Operations
from vmatlas.target.local import LOCAL


def operations_of(system: str) -> Operations:
    """Those of an operating system. Raises Unsupported when no plugin has them, or it cannot be loaded."""
    if system not in registry.entries(registry.OPERATIONS):
        raise Unsupported(f"no installed plugin has memory operations for '{system}'", hint=how_to_install_for(system))
    found: Operations = registry.plugin(registry.OPERATIONS, system)
    return found


def operations_here() -> Operations:
    """Those of this machine. Raises Unsupported."""
    return operations_of(LOCAL.system_info.system)
