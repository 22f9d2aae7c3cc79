"""Third room: brings what is wanted, verified, into files on this disk.

`sources` and `python` take a machine's list (room `resolve`) and give `Fetched` and `Userland`; `catalogue` answers
what that room asks of mirrors and of the cache. `archive` carries Debian's files and verifies them, `download` those of
a URL, `wheels` those that pip knows; `cache` keeps them. `guard` and `guarded` run commands that must not outlive us,
for all rooms. Nothing is handed on whose digest was not checked.
"""
