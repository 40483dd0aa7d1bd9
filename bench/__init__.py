"""Measures the service as its users run it, beside pgbench on the same server. No part of the service imports this."""
