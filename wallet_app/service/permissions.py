"""What each role may do, said once: whoever guards a screen or an act asks here. What is not listed is denied."""

from __future__ import annotations

from types import MappingProxyType

PERMISSIONS = MappingProxyType(
    {
        "wallets:read": "Find users, wallets and transactions, and read what happened",
        "wallets:freeze": "Freeze a wallet and lift the freeze",
        "adjustments:post": "Adjust a balance below the threshold",
        "adjustments:request": "Ask for what needs a second pair of eyes",
        "limits:request": "Ask for higher limits of a wallet, for some days, and end them",
        "bulk:draft": "Prepare bulk adjustments",
        "bulk:watch": "Check bulk runs again, and stop one that is on its way",
        "bulk:results": "Take along what came of a bulk run",
        "approvals:read": "See what was asked for",
        "approvals:own": "See what you asked for yourself, and take it back",
        "approvals:decide": "Approve or reject what others asked for",
        "switches:read": "See what is stopped, and why",
        "switches:user": "Stop a user, and let them go again",
        "switches:manage": "Stop an asset or everything, and let them go again",
        "reports:read": "Read reports",
        "reports:export": "Export lists and statements",
        "audit:read": "Read who did what",
        "integrity:read": "See whether the books were verified, and what the background work does",
        "integrity:run": "Start a verification of the books",
        "imports:review": "See what came of imported files, and say that one which went wrong was looked at",
        "operators:manage": "Manage operators and their roles",
        "keys:manage": "Manage the services' API keys",
        "assets:manage": "Manage assets and their limits",
        "reasons:manage": "Manage reason codes",
        "settings:read": "Read the service's settings",
        "account:own": "Look after your own sign-in",
    }
)
"""Each permission with what it lets an operator do, in words for the console."""

# Whatever their role is by now: what somebody asked for while they might is still theirs to take back.
_OWN = {"account:own", "approvals:own"}
_INTEGRITY = {"integrity:read", "integrity:run", "imports:review"}
_READ = {"wallets:read", "approvals:read", "switches:read"} | _OWN
_STOP = {"switches:read", "switches:user", "switches:manage"}
# Whoever sees that a run goes wrong can stop it: nothing is lost by that; and its makers need its results.
_BULK = {"bulk:watch", "bulk:results"}

ROLES = MappingProxyType(
    {
        "viewer": frozenset(_READ),
        "support": frozenset(
            _READ
            | _BULK
            | {"adjustments:post", "adjustments:request", "wallets:freeze", "switches:user", "bulk:draft"}
            | {"limits:request"},
        ),
        "approver": frozenset(_READ | _STOP | _BULK | {"approvals:decide"}),
        "finance": frozenset(
            _READ | _INTEGRITY | {"reports:read", "reports:export", "audit:read", "bulk:results"},
        ),
        "admin": frozenset(
            _OWN
            | _STOP
            | _INTEGRITY
            | {"operators:manage", "keys:manage", "assets:manage", "reasons:manage", "settings:read", "audit:read"},
        ),
    }
)
"""Each role's permissions. No role both asks and approves, and none both moves money and makes operators."""

MOVES_MONEY = frozenset({"adjustments:post", "adjustments:request", "approvals:decide", "bulk:draft"})
"""The permissions by which money moves in the end."""
