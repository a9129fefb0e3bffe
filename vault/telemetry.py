"""What is counted of Vault in this agent's process, from its start? Read by /v1/metrics (docs/metrics.md)."""

from prometheus_client import Counter

FAILURES = Counter("drover_vault_failures", "Calls of Vault that came to nothing, by why", ["reason"])
LOGINS = Counter("drover_vault_logins", "Times that the agent logged in to Vault anew")

# A series that begins with its first increase hides that increase from rate().
for _reason in ("VaultUnavailable", "TooSlow", "NotTrusted"):
    FAILURES.labels(_reason)
