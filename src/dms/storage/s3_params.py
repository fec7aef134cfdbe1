"""Parameters of S3 (``spec/execution.md`` 6.4), and whose credentials count.

``Bucket``; ``Key``: an object, ``folder/`` or a pattern such as ``data/part-*``; ``Filter``: a pattern for what lies below;
``Region``; ``Endpoint`` of another service; ``AccessKeyID``, ``SecretAccessKey``, ``SessionToken``, or ``Anonymous``;
``Profile``; ``SHA256`` of a single object; ``PathStyle``.

The environment and the profiles of this machine are its owner's: they serve what the owner asks for, never what a
job asks for. The metadata service of a cloud is not asked at all.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from dms.storage.egress import Egress
from dms.storage.errors import InvalidStorageSpec
from dms.storage.spec import StorageParams
from dms.storage.web import check_url
from dms.types.resources import SpecConfig

TYPE = "s3"
DEFAULT_REGION = "us-east-1"
_KNOWN = (
    "Bucket",
    "Key",
    "Filter",
    "Region",
    "Endpoint",
    "AccessKeyID",
    "SecretAccessKey",
    "SessionToken",
    "Anonymous",
    "Profile",
    "SHA256",
    "PathStyle",
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_SHA256 = re.compile(r"(?:sha256[:-])?([0-9a-fA-F]{64})")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys; they do not print."""

    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class S3Params:
    """What is wanted, and as whom."""

    bucket: str
    key: str
    filter: str
    region: str
    endpoint: str
    """Empty: AWS."""
    credentials: Credentials | None
    """``None``: nobody in particular."""
    sha256: str
    is_path_style: bool

    @classmethod
    def read(cls, spec: SpecConfig, egress: Egress, environment: Mapping[str, str] | None = None) -> S3Params:
        """Read them; ``egress`` tells whether the owner asks.

        :raises InvalidStorageSpec: they cannot work.
        """
        params = StorageParams(spec, TYPE, known=_KNOWN)
        variables: Mapping[str, str] = {}
        if egress.is_open:
            variables = os.environ if environment is None else environment
        bucket = params.required("Bucket")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise params.error(f"{bucket[:80]!r} is no name of a bucket")
        digest = _SHA256.fullmatch(params.text("SHA256"))
        if params.text("SHA256") and digest is None:
            raise params.error("SHA256 must be 64 hexadecimal digits")
        profile = _profile(params, variables) if egress.is_open else {}
        if params.text("Profile") and not egress.is_open:
            raise params.error("profiles are the owner's; jobs bring their own keys")
        region = (
            params.text("Region")
            or variables.get("AWS_REGION", "")
            or variables.get("AWS_DEFAULT_REGION", "")
            or profile.get("region", "")
            or DEFAULT_REGION
        )
        if not _REGION.fullmatch(region):
            raise params.error(f"{region[:80]!r} is no region")
        endpoint = (
            params.text("Endpoint") or variables.get("AWS_ENDPOINT_URL_S3", "") or variables.get("AWS_ENDPOINT_URL", "")
        )
        return cls(
            bucket=bucket,
            key=_clean_key(params.text("Key")),
            filter=params.text("Filter"),
            region=region,
            endpoint=_check_endpoint(params, endpoint, egress),
            credentials=_credentials(params, variables, profile),
            sha256=digest[1].lower() if digest else "",
            is_path_style=params.flag("PathStyle", default=bool(endpoint) or "." in bucket),
        )

    @property
    def is_single(self) -> bool:
        """Whether one object is meant, and not all below a folder or of a pattern."""
        return bool(self.key) and not self.key.endswith("/") and not _WILD.search(self.key)

    @property
    def prefix(self) -> str:
        """The folder in which everything wanted lies."""
        wild = _WILD.search(self.key)
        return (self.key[: wild.start()] if wild else self.key).rpartition("/")[0]

    def wants(self, key: str) -> bool:
        """Whether an object that lies in :attr:`prefix` is meant."""
        relative = key[len(self.prefix) + 1 :] if self.prefix else key
        if self.filter and not fnmatchcase(relative, self.filter):
            return False
        if self.key.endswith("*") and not _WILD.search(self.key[:-1]):
            return key.startswith(self.key[:-1])
        return not _WILD.search(self.key) or fnmatchcase(key, self.key)

    @property
    def url(self) -> str:
        """Where the service is."""
        if self.endpoint:
            return self.endpoint
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        host = f"s3.{self.region}.{domain}"
        return f"https://{host}" if self.is_path_style else f"https://{self.bucket}.{host}"

    def public(self, key: str) -> SpecConfig:
        """Where ``key`` can be found, without secrets."""
        found: dict[str, object] = {"Bucket": self.bucket, "Key": key, "Region": self.region}
        return SpecConfig(type=TYPE, params=found | ({"Endpoint": self.endpoint} if self.endpoint else {}))


def _clean_key(key: str) -> str:
    """As the original: spaces around it do not count, nor does a slash before it."""
    return key.strip().lstrip("/")


def _check_endpoint(params: StorageParams, endpoint: str, egress: Egress) -> str:
    if not endpoint:
        return ""
    try:
        url = check_url(endpoint)
    except InvalidStorageSpec as exc:
        raise params.error(exc.message) from None
    if url.userinfo or url.query or url.fragment:
        raise params.error("the endpoint must be a plain address")
    if url.scheme == "http" and not egress.is_open and not _is_opened(url.host, egress):
        raise params.error("the endpoint must be one of https")
    return str(url).rstrip("/")


def _is_opened(host: str, egress: Egress) -> bool:
    """Whether the owner has opened exactly this address."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in egress.allowed)


def _credentials(params: StorageParams, variables: Mapping[str, str], profile: Mapping[str, str]) -> Credentials | None:
    if params.flag("Anonymous"):
        return None
    key, secret = params.text("AccessKeyID"), params.text("SecretAccessKey")
    if bool(key) != bool(secret):
        raise params.error("AccessKeyID and SecretAccessKey belong together")
    if key:
        return Credentials(key, secret, params.text("SessionToken"))
    if params.text("Profile") or "AWS_ACCESS_KEY_ID" not in variables:
        key, secret = profile.get("aws_access_key_id", ""), profile.get("aws_secret_access_key", "")
        token = profile.get("aws_session_token", "")
    else:
        key, secret = variables["AWS_ACCESS_KEY_ID"], variables.get("AWS_SECRET_ACCESS_KEY", "")
        token = variables.get("AWS_SESSION_TOKEN", "")
    if not key or not secret:
        raise params.error(
            "there are no credentials", hint="give AccessKeyID and SecretAccessKey, or Anonymous for public buckets"
        )
    return Credentials(key, secret, token)


def _profile(params: StorageParams, variables: Mapping[str, str]) -> dict[str, str]:
    """The profile of the owner's files; empty where there is none and none was asked for."""
    name = params.text("Profile") or variables.get("AWS_PROFILE", "default")
    home = Path(variables.get("HOME", "/nonexistent"))
    files = (
        (Path(variables.get("AWS_SHARED_CREDENTIALS_FILE", home / ".aws/credentials")), name),
        (
            Path(variables.get("AWS_CONFIG_FILE", home / ".aws/config")),
            name if name == "default" else f"profile {name}",
        ),
    )
    found: dict[str, str] = {}
    for path, section in files:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(path.read_text())
        except OSError:
            continue
        except (configparser.Error, UnicodeDecodeError):
            raise params.error(f"{path} cannot be read") from None
        if parser.has_section(section):
            found = dict(parser.items(section)) | found
    if params.text("Profile") and not found:
        raise params.error(f"there is no profile {name[:80]!r}")
    return found
