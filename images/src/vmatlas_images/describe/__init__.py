"""First room: from YAML to values. Machines (`machine`), what a guest's Python runs (`plan`), named sets (`sets`).

It reads descriptions, and asks nobody what they come to.
"""
