"""What is known of Vault from this agent's process? Read by /v1/metrics (docs/metrics.md)."""

from prometheus_client import Counter, Gauge

UP = Gauge("drover_vault_up", "Whether Vault answered the last question about its health and can serve", ["address"])
TOKEN_TTL_S = Gauge("drover_vault_token_ttl_seconds", "Until the agent's own token ends; 0: there is none, +Inf: never")
CONTACT_AGE_S = Gauge("drover_vault_contact_age_seconds", "Since Vault last answered the agent; +Inf: never did")
FAILURES = Counter("drover_vault_failures", "Calls of Vault that came to nothing, by why", ["reason"])

for _reason in ("VaultUnavailable", "TooSlow", "NotTrusted"):
    FAILURES.labels(_reason)
