"""From values to what people and programs read: tables as values, then text, terminal, JSON or CSV.

A renderer asks nothing of any process and writes nowhere but to the stream it is given.
"""
