"""Verification: the books are read back and every promise about them is checked by a query that must return nothing."""

from __future__ import annotations

from wallet_app.service.verification.report import Fault, Finding, VerifyReport
from wallet_app.service.verification.requests import request_verification, run_requested
from wallet_app.service.verification.run import verify
from wallet_app.service.verification.runs import RunView, get_verification, list_verifications

__all__ = [
    "Fault",
    "Finding",
    "RunView",
    "VerifyReport",
    "get_verification",
    "list_verifications",
    "request_verification",
    "run_requested",
    "verify",
]
