"""Verification: the books are read back and every promise about them is checked by a query that must return nothing."""

from __future__ import annotations

from wallet_app.service.verification.report import Fault, Finding, VerifyReport
from wallet_app.service.verification.run import verify

__all__ = ["Fault", "Finding", "VerifyReport", "verify"]
