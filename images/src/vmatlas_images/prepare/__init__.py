"""Fourth room: from files on this disk to what boots. It asks no network.

`preparing` makes kernel, initramfs, CD and disk, `userland` what a guest's Python needs, of `wheels` built from our own
sources; `agents` builds the agent.
"""
