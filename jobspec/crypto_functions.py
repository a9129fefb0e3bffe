"""The functions of job files that make digests, secrets and unique ids.

The libraries are imported by the call: `cryptography` alone takes longer to load than a job file to read.
"""

from base64 import b64decode

from jobspec.evaluate import Function
from jobspec.values import ConversionFault, Value, to_index, to_text

_BCRYPT_COST = 10
_BCRYPT_COSTS = range(4, 32)
# 60 ms at the default cost, as much as these steps of other work; each further step of cost doubles it.
_BCRYPT_STEPS = 100_000


def _md5(text: Value) -> Value:
    import hashlib

    return hashlib.md5(to_text(text).encode(), usedforsecurity=False).hexdigest()


def _sha1(text: Value) -> Value:
    import hashlib

    return hashlib.sha1(to_text(text).encode(), usedforsecurity=False).hexdigest()


def _sha256(text: Value) -> Value:
    import hashlib

    return hashlib.sha256(to_text(text).encode()).hexdigest()


def _sha512(text: Value) -> Value:
    import hashlib

    return hashlib.sha512(to_text(text).encode()).hexdigest()


def _uuidv4() -> Value:
    import uuid

    return str(uuid.uuid4())


def _uuidv5(namespace: Value, name: Value) -> Value:
    import uuid

    space = to_text(namespace)
    known = {
        "dns": uuid.NAMESPACE_DNS,
        "url": uuid.NAMESPACE_URL,
        "oid": uuid.NAMESPACE_OID,
        "x500": uuid.NAMESPACE_X500,
    }
    try:
        return str(uuid.uuid5(known.get(space) or uuid.UUID(space), to_text(name)))
    except ValueError:
        raise ConversionFault(
            f'"{space[:60]}" is no namespace (known: {", ".join(known)}, or a UUID)'
        ) from None


def _cost(cost: tuple[Value, ...]) -> int:
    number = to_index(cost[0]) if cost else _BCRYPT_COST
    if number > _BCRYPT_COSTS[-1]:
        raise ConversionFault(f"a cost between {_BCRYPT_COSTS[0]} and {_BCRYPT_COSTS[-1]} required")
    return number if number in _BCRYPT_COSTS else _BCRYPT_COST  # as Nomad: too little means the default


def bcrypt_steps(*arguments: Value) -> int:
    """What a call of bcrypt costs of the job file's budget."""
    return _BCRYPT_STEPS << _cost(arguments[1:]) >> _BCRYPT_COST


def _bcrypt(text: Value, *cost: Value) -> Value:
    if len(cost) > 1:
        raise ConversionFault(f"1 to 2 arguments required, found {1 + len(cost)}")
    secret = to_text(text).encode()
    if len(secret) > 72:
        raise ConversionFault("at most 72 bytes can be hashed")
    import bcrypt

    return bcrypt.hashpw(secret, bcrypt.gensalt(_cost(cost), prefix=b"2a")).decode()


def _rsadecrypt(ciphertext: Value, private_key: Value) -> Value:
    """PKCS #1 v1.5 with a key in PEM form. No message here holds text or key."""
    try:
        secret = b64decode(to_text(ciphertext), validate=True)
    except ValueError:
        raise ConversionFault("the ciphertext is not base64") from None
    pem = to_text(private_key).encode()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ConversionFault("keys with a password are not supported (decrypt the key first)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConversionFault("no private key in PEM form") from None
    if not isinstance(key, RSAPrivateKey):
        raise ConversionFault("the key is no RSA key")
    try:
        return key.decrypt(secret, PKCS1v15()).decode()
    except ValueError:  # a text that is not UTF-8 is what a wrong key makes of it
        raise ConversionFault("the ciphertext was not made for this key") from None


CRYPTO_FUNCTIONS: dict[str, Function] = {
    "bcrypt": _bcrypt,
    "md5": _md5,
    "rsadecrypt": _rsadecrypt,
    "sha1": _sha1,
    "sha256": _sha256,
    "sha512": _sha512,
    "uuidv4": _uuidv4,
    "uuidv5": _uuidv5,
}
