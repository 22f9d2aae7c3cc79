"""The benchmark: vmatlas against the bare system calls and its peers, in one run: `./run invoke bench`.

No test: nothing here fails for being slow.
"""
