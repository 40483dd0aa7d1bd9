"""Tests of the kernel: locks, postings, failures and what the database guards."""
