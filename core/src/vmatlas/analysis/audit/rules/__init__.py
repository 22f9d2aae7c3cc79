"""The rules, in the order in which they are told. To add one: see `vmatlas.analysis.audit.rule`."""

from __future__ import annotations

from vmatlas.analysis.audit.rule import Rule
from vmatlas.analysis.audit.rules import (
    anybodys_code,
    changed_code,
    dual_mapping,
    executable_heap,
    executable_stack,
    fixed_program,
    gone_file,
    many_regions,
    memory_file_code,
    nameless_code,
    temporary_code,
    undone_relro,
    unguarded_stack,
    unguarded_thread,
    unknown_code,
    unsealed_code,
    writable_code,
)

RULES: tuple[Rule, ...] = (
    writable_code.RULE,
    executable_stack.RULE,
    executable_heap.RULE,
    memory_file_code.RULE,
    dual_mapping.RULE,
    anybodys_code.RULE,
    nameless_code.RULE,
    changed_code.RULE,
    gone_file.DELETED,
    gone_file.NAMELESS,
    gone_file.REPLACED,
    temporary_code.RULE,
    undone_relro.RULE,
    unguarded_stack.RULE,
    unguarded_thread.RULE,
    many_regions.RULE,
    fixed_program.RULE,
    unknown_code.RULE,
    unsealed_code.RULE,
)
