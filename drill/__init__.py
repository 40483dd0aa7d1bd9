"""Kills under load, with clients that write down what they want and what they are told: is every acknowledged write
in the ledger, and is anything there twice? `make drill`; it touches no database but its own.
"""
