"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for records and text."""
