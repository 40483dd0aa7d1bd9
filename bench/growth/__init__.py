"""Measures whether the service stays as fast as it is while the ledger grows."""
