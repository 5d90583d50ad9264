"""What an object store's error means: refused for good, with one line that says what to do, or worth another try."""

from __future__ import annotations

import errno
from typing import Any

from facex_tune.errors import InputError, causes, one_line

_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
)
_OURS = (TypeError, AttributeError, KeyError, NotImplementedError, InputError)  # a mistake of ours stays one
_PLAIN = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)  # an answer, no fault
_FINAL_ERRNO = (errno.EPERM, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.ENOSPC, errno.EDQUOT)
_FINAL_CODES = {
    "InvalidBucketName": "no such bucket name",
    "InvalidArgument": "the store does not understand the request",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "301": "the bucket is in another region: set AWS_DEFAULT_REGION",
}


class Unsupported(InputError):
    """The store does not know this kind of request."""


def refusal(error: Exception, url: str) -> Exception | None:
    """What to raise at once for an error; None: another try may succeed."""
    code, names = _code(error), {type(each).__name__ for each in causes(error)}
    if code == "NoSuchBucket":
        return InputError(f"{url}: there is no bucket of that name; make it, or correct --storage")
    if code in ("PreconditionFailed", "412"):
        return FileExistsError(errno.EEXIST, "exists already", url)
    if isinstance(error, _PLAIN):
        return error
    if code == "RequestTimeTooSkewed":
        return InputError(f"{url}: refused, because this machine's clock is wrong; set it")
    if names & set(_NO_CREDENTIALS):
        return InputError(
            f"{url}: no credentials ({in_words(error)}); set those of this store in the environment, such as "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, PermissionError):
        return InputError(
            f"{url}: access denied ({in_words(error)}); check the credentials in the environment, and that they may "
            f"list, read, write and delete there"
        )
    if code in ("NotImplemented", "501"):
        return Unsupported(f"{url}: the store cannot do this ({in_words(error)})")
    if code in _FINAL_CODES:
        return InputError(f"{url}: {_FINAL_CODES[code]} ({in_words(error)})")
    if isinstance(error, OSError) and error.errno in _FINAL_ERRNO:
        return InputError(f"{url}: {in_words(error)}; what is saved stays, mend this and resume")
    if "ParamValidationError" in names or isinstance(error, ValueError):
        return InputError(f"{url}: no place to keep runs in ({in_words(error)})")
    return error if isinstance(error, _OURS) else None


def in_words(error: BaseException) -> str:
    """One line."""
    return one_line(error, 200)


def _code(error: BaseException) -> str:
    """The store's own name for an error, where its client kept the answer."""
    for each in causes(error):
        answer: Any = getattr(each, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""

