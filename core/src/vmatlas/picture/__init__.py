"""Pictures of address spaces: a scene of what lies where (`scene`), which renderers draw: HTML, SVG. Pure.

The terminal's renderer is the command line's (`cli/render/picture`).
"""
