"""Many moments of one process in one file (format 2 of captures): written one after another, read at any of them.

`loading` < `frames` < `delta` < `moments` < `when` < `reader` < `writer`. docs/captures.md describes the file.
"""
