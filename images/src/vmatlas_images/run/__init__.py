"""Fifth room: boots what was prepared, talks to it, and judges it.

`boot` goes from a description to the agent's hello; `qemu`, `programs` and `accelerator` say how, `console` hears and
types, `handshake` greets. `conform` and `inside` are what is run on a machine, `results` the values that it comes to,
`matrix` runs many side by side; `attend` is a machine for a person, `keep` one that stays.
"""
