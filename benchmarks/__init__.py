"""pycnn beside the machine's peak and beside its peers: `python -m benchmarks --help`."""
