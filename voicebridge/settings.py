"""Configuration: flags over environment over ``.env`` over TOML file over defaults.

One frozen `Settings` is built once, by the command line. Everything below it gets plain
values. An unknown key is refused with the nearest known one, because a misspelt
``VOICEBRIDGE_`` variable that is silently ignored costs an evening.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from voicebridge.core.session import MediaConfig
from voicebridge.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX = "VOICEBRIDGE_"
DEFAULT_TOML = Path("voicebridge.toml")

#: A host name, an address, or a pattern for all names below one.
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")

GROUPS = ("media", "call", "recording")

SignatureMode = Literal["required", "if-present", "off"]


class MediaSettings(BaseModel):
    """The media path; ``VOICEBRIDGE_MEDIA__...``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate: Literal[8000, 16000, 24000, 48000] = Field(16_000, description="of the wire, Hz")
    wire_frame_ms: int = Field(60, ge=10, le=120, description="length of each message sent")
    lead_ms: int = Field(60, ge=0, le=120, description="sent ahead, beyond one wire frame")
    path_delay_ms: int = Field(
        150, ge=0, le=2_000, description="from our socket to the caller's ear, for what was heard"
    )
    preroll_ms: int = Field(
        60, ge=0, le=1_000, description="queued before a streamed utterance starts"
    )
    idle_fill_ms: int = Field(
        90, ge=40, le=1_000, description="without audio before silence or stall is asked"
    )
    detect_format: bool = Field(
        True, description="finds out where the server sends another format than `sample_rate`"
    )
    greeting_wait_ms: int = Field(
        1_500, ge=0, le=10_000, description="after answering, where nothing proves the line is up"
    )

    def core(self) -> MediaConfig:
        """The same for the core, which knows no pydantic."""
        return MediaConfig(
            sample_rate=self.sample_rate,
            wire_frame_ms=self.wire_frame_ms,
            lead_ms=self.lead_ms,
            path_delay_ms=self.path_delay_ms,
            preroll_ms=self.preroll_ms,
            idle_fill_ms=self.idle_fill_ms,
        )


class RecordingSettings(BaseModel):
    """Stereo recordings of calls; ``VOICEBRIDGE_RECORDING__...``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dir: str = Field("", description="where recordings go; empty means none")
    format: Literal["flac", "wav"] = Field("flac", description="of the files")
    announced: bool = Field(
        False, description="says that your bot tells callers; without it nothing is recorded"
    )


class CallSettings(BaseModel):
    """When calls are given up; ``VOICEBRIDGE_CALL__...``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ring_seconds: float = Field(25, gt=0, description="how long a ringing call is tried")
    stale_ring_seconds: float = Field(
        45, gt=0, description="older ringing events are confirmed with GET first"
    )
    dial_seconds: float = Field(60, gt=0, description="how long an outbound call may ring")
    deaf_seconds: float = Field(
        20, gt=0, description="without any audio from the caller before a polite end"
    )
    silence_seconds: float = Field(300, gt=0, description="both sides silent before the end")
    poll_seconds: float = Field(25, gt=0, description="GET of the call's status while it is live")
    ringing_poll_seconds: float = Field(
        0, ge=0, description="list calls this often to find lost webhooks; 0 is off"
    )
    fallback_prompt_seconds: float = Field(
        8, gt=0, description="length of the fallback prompt: hang up after it"
    )
    bot_grace_seconds: float = Field(5, gt=0, description="for a bot to end after hang-up")


class Settings(BaseSettings):
    """All of it; see the README's table for what each key means."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
        env_ignore_empty=True,
    )

    #: Where the TOML source reads; `load_settings` sets it on a subclass of its own.
    toml_file: ClassVar[Path | None] = None

    api_key: SecretStr = Field(SecretStr(""), description="number-scoped `ps_...` key")
    api_url: str = Field("https://pilotstatus.com.br", description="base; `/v1/...` is appended")
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="one or more secrets, comma separated (rotation)"
    )
    signature_mode: SignatureMode | None = Field(
        None, description="`required` if a secret is set, else `off` with a warning"
    )
    media_hosts: str = Field(
        "*.pilotstatus.com.br", description="allow-list for the media socket, comma separated"
    )
    allow_insecure_media: bool = Field(
        False, description="allows `ws://` and loopback, for the emulator"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65_535, description="port to listen on")
    bot: str = Field("", description="bot SPEC: name, module:Class or path/to/file.py:Class")
    max_calls: int = Field(50, ge=1, description="calls at once; more are rejected politely")
    max_call_seconds: float = Field(1_800, gt=0, description="longest call")
    fallback_prompt_url: str = Field(
        "", description="public audio file for `/play` when media cannot be opened"
    )
    redis_url: SecretStr = Field(
        SecretStr(""), description="coordination among workers; empty means in-process"
    )
    console_token: SecretStr = Field(
        SecretStr(""), description="bearer token of `/calls` and control; empty: loopback only"
    )
    capsule_dir: str = Field("", description="where call capsules go; empty means none")
    drain_seconds: float = Field(300, ge=0, description="grace for live calls after SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe log line written"
    )
    log_format: Literal["console", "json"] = Field("console", description="shape of log lines")
    media: MediaSettings = MediaSettings()  # type: ignore[call-arg]
    recording: RecordingSettings = RecordingSettings()  # type: ignore[call-arg]
    call: CallSettings = CallSettings()  # type: ignore[call-arg]

    @field_validator("api_url")
    @classmethod
    def _base_url(cls, url: str) -> str:
        url = url.rstrip("/").removesuffix("/v1")
        if not url.startswith(("https://", "http://")):
            raise ValueError("must start with https:// (or http:// for the emulator)")
        return url

    @model_validator(mode="after")
    def _no_key_in_clear(self) -> Self:
        url = urlsplit(self.api_url)
        if url.scheme == "http" and not self.allow_insecure_media and not _is_loopback(url):
            raise ValueError(
                "VOICEBRIDGE_API_URL: http:// would send the API key in clear text; use https://, "
                "or for an emulator on another host set VOICEBRIDGE_ALLOW_INSECURE_MEDIA=true"
            )
        return self

    @field_validator("media_hosts")
    @classmethod
    def _host_names(cls, hosts: str) -> str:
        if not all(_HOST.fullmatch(each.strip().lower()) for each in hosts.split(",")):
            raise ValueError("must be host names, comma separated, e.g. *.pilotstatus.com.br")
        return hosts

    @field_validator("fallback_prompt_url")
    @classmethod
    def _public_url(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("must be a public https:// address: the provider fetches it")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, cls.toml_file)
        return init_settings, env_settings, _OwnKeys(dotenv_settings), toml

    @property
    def secrets(self) -> list[SecretStr]:
        """The webhook secrets, newest first as the operator wrote them."""
        return _split(self.webhook_secret)

    @property
    def effective_signature_mode(self) -> SignatureMode:
        return self.signature_mode or ("required" if self.secrets else "off")

    @property
    def media_host_patterns(self) -> list[str]:
        return [host.strip() for host in self.media_hosts.split(",") if host.strip()]


class _Only(Settings):
    """Settings that read nothing but what they are given."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class _OwnKeys(PydanticBaseSettingsSource):
    """A ``.env`` file less what is not ours: other programs keep their keys there too."""

    def __init__(self, dotenv: PydanticBaseSettingsSource) -> None:
        super().__init__(dotenv.settings_cls)
        self._dotenv = dotenv

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._dotenv.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        return {
            key: value
            for key, value in self._dotenv().items()
            if key in Settings.model_fields or key.lower().startswith(PREFIX.lower())
        }


def _split(secret: SecretStr) -> list[SecretStr]:
    parts = (part.strip() for part in secret.get_secret_value().split(","))
    return [SecretStr(part) for part in parts if part]


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def known_keys() -> list[str]:
    """Every environment variable that means something."""
    keys = []
    for name, info in Settings.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            keys += [f"{PREFIX}{name}__{key}".upper() for key in group.model_fields]
        else:
            keys.append(f"{PREFIX}{name}".upper())
    return keys


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Reads all sources; ``flags`` that are None count as not given.

    Raises:
        ConfigError: an unknown key, a value out of range, an unreadable file. The
            message names the key and never shows a value.
    """
    _refuse_unknown_variables()
    toml = config or (DEFAULT_TOML if DEFAULT_TOML.is_file() else None)
    if config is not None and not config.is_file():
        raise ConfigError(f"--config {config}: there is no such file; give a TOML file")
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        source = type("_", (Settings,), {"toml_file": toml, "__module__": __name__})
        return source(**given)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{toml} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{toml or '.env'} cannot be read: save it as UTF-8 text") from None
    except SettingsError as error:  # a group given as a whole, and not as JSON
        raise ConfigError(_of_group(str(error))) from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"the configuration cannot be read: {error}") from None


def only(**values: Any) -> Settings:
    """Settings from these values and the defaults alone: no environment, no file; for tests."""
    return _Only(**values)


def _refuse_unknown_variables() -> None:
    known = known_keys()
    groups = tuple(f"{PREFIX}{name}".upper() for name in GROUPS)
    for key in os.environ:
        upper = key.upper()
        if upper.startswith(PREFIX) and upper not in known and upper not in groups:
            raise ConfigError(f"{key} is not a setting{_suggest(upper, known)}")


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; the README's table lists them all"


def _explain(error: ValidationError) -> str:
    known = known_keys()
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        key = PREFIX + "__".join(str(part) for part in problem["loc"]).upper()
        # A key read from .env keeps the prefix in its location.
        key = key.replace(PREFIX + PREFIX, PREFIX)
        if not problem["loc"]:
            lines.append(problem["msg"].removeprefix("Value error, "))
        elif problem["loc"][-1] in GROUPS:
            lines.append(_of_group(str(problem["loc"][-1])))
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{key} is not a setting{_suggest(key, known)}")
        else:
            lines.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _of_group(text: str) -> str:
    group = next((name for name in GROUPS if name in text), GROUPS[0])
    example = next(key for key in known_keys() if key.startswith(f"{PREFIX}{group}__".upper()))
    return f"{PREFIX}{group.upper()} is a group: set its keys one by one, e.g. {example}"
