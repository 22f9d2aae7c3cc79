"""Sixth room: shows and keeps what a run came to.

`shown` is for a terminal and JUnit, `record` for later, `history` of all days, `page` and `readme` for publishing;
`overview` tells of each machine whether it could run here.
"""
