"""One question to many machines, kept as a data set that engines read. docs/fleet.md tells its floors."""
