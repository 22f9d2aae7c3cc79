"""`vmatlas top` on a terminal: what is asked again and again by threads, and shown by textual. Keys never wait."""
