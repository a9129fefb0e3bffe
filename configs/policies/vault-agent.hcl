# drover's own token in Vault, of every agent: what it needs to give tasks tokens of their own. This is a policy of Vault,
# not of Consul; docs/vault.md has the token role `drover-tasks` and the ways to give an agent its token.
#
#   vault policy write drover-agent vault-agent.hcl
#   vault write auth/token/roles/drover-tasks allowed_policies=web,db orphan=true renewable=true token_period=72h

# Tokens for tasks, with no other policies than the role allows. Name the role in create_from_role.
path "auth/token/create/drover-tasks" {
  capabilities = ["update"]
}

# `drover vault check` looks whether the role is as it should be.
path "auth/token/roles/drover-tasks" {
  capabilities = ["read"]
}

# The token of a task that ended, or whose node is lost.
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}

# Its own. Vault's `default` policy has these as well.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}

# A task's wrapped token is unwrapped with itself, and a lease renewed with the task's token: neither needs anything here.
