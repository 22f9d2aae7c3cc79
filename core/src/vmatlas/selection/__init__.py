"""Whom to ask: words that choose processes (`words`, pure), and what they mean on a target (`resolving`)."""
