"""How does the agent's configuration become a Vault client with drover's own token?"""

from contextlib import AsyncExitStack

from configs import Vault
from vault.client import Endpoint, VaultClient
from vault.login import AppRole, Given, Login, NoToken, TokenFile, Way

# Health and token are looked after at the same time.
_OWN_THREADS_MAX = 2


def vault_login(vault: Vault, stack: AsyncExitStack) -> Login:
    """Not running yet; its clients are closed with the stack. Nothing is asked of Vault here: it may be away."""
    client, own = VaultClient(endpoint(vault)), VaultClient(endpoint(vault), threads_max=_OWN_THREADS_MAX)
    stack.callback(client.close)
    stack.callback(own.close)
    return Login(client=client, way=_way(vault), own_client=own)


def endpoint(vault: Vault) -> Endpoint:
    return Endpoint(
        address=vault.address,
        namespace=vault.namespace,
        ca_file=vault.ca_file,
        ca_path=vault.ca_path,
        cert_file=vault.cert_file,
        key_file=vault.key_file,
        server_name=vault.tls_server_name,
        is_verified=not vault.tls_skip_verify,
        timeout_s=vault.timeout_s,
    )


def _way(vault: Vault) -> Way:
    """A token from the environment counts only where the files name no other way."""
    if vault.role_id:
        return AppRole(role_id=vault.role_id, secret_id_file=vault.secret_id_file, mount=vault.approle_mount)
    if vault.token_file is not None:
        return TokenFile(path=vault.token_file)
    return Given(token=vault.token) if vault.token else NoToken()
