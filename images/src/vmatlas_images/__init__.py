"""The machines of vmatlas: YAML descriptions of real kernels, fetched, verified, booted in QEMU and reported on."""
