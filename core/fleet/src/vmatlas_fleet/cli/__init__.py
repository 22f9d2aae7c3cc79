"""The commands that this distribution adds to `vmatlas`, under the entry-point group `vmatlas.commands`.

Each module loads click alone: what a command needs, it loads when it runs.
"""
