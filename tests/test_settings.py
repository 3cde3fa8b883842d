"""Configuration: the order of sources, and refusals that help and show no secret."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from voicebridge.errors import ConfigError
from voicebridge.settings import GROUPS, Settings, known_keys, load_settings

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "ps_canary_5f2d"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key in list(os.environ):
        if key.upper().startswith("VOICEBRIDGE_"):
            monkeypatch.delenv(key)


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings()
    assert settings.api_url == "https://pilotstatus.com.br"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.media_host_patterns == ["*.pilotstatus.com.br"]
    assert settings.max_calls == 50
    assert settings.max_call_seconds == 1800
    assert settings.drain_seconds == 300
    assert settings.effective_signature_mode == "off"
    assert settings.allow_insecure_media is False


def test_flags_win_over_environment_over_dotenv_over_toml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "voicebridge.toml").write_text("port = 1\nmax_calls = 1\nbot = 'toml'\nhost = 'h'")
    (tmp_path / ".env").write_text("VOICEBRIDGE_PORT=2\nVOICEBRIDGE_MAX_CALLS=2\nVOICEBRIDGE_BOT=e")
    monkeypatch.setenv("VOICEBRIDGE_PORT", "3")
    monkeypatch.setenv("VOICEBRIDGE_MAX_CALLS", "3")
    settings = load_settings(port=4, max_calls=None)
    assert (settings.port, settings.max_calls, settings.bot, settings.host) == (4, 3, "e", "h")


def test_groups_are_reached_by_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBRIDGE_MEDIA__LEAD_MS", "40")
    assert load_settings().media.lead_ms == 40
    assert load_settings().media.core().lead_ms == 40


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("VOICEBRIDGE_API_KY", "VOICEBRIDGE_API_KEY"),
        ("VOICEBRIDGE_WEBHOOK_SECRETS", "VOICEBRIDGE_WEBHOOK_SECRET"),
        ("VOICEBRIDGE_MEDIA__LEAD", "VOICEBRIDGE_MEDIA__LEAD_MS"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, key: str, nearest: str
) -> None:
    monkeypatch.setenv(key, CANARY)
    with pytest.raises(ConfigError, match=nearest) as caught:
        load_settings()
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["VOICEBRIDGE_API_KY=x", "VOICEBRIDGE_MEDIA__LEED_MS=4"], ids=["key", "group"]
)
def test_an_unknown_key_in_dotenv_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text)
    with pytest.raises(ConfigError, match="did you mean VOICEBRIDGE_"):
        load_settings()


def test_other_programs_keys_in_dotenv_are_none_of_our_business(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=x\nPORT=1\nVOICEBRIDGE_PORT=2")
    assert load_settings().port == 2


def test_an_unknown_key_in_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "voicebridge.toml").write_text("portt = 1")
    with pytest.raises(ConfigError, match="VOICEBRIDGE_PORT"):
        load_settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VOICEBRIDGE_PORT", "99999"),
        ("VOICEBRIDGE_PORT", CANARY),
        ("VOICEBRIDGE_MAX_CALLS", "0"),
        ("VOICEBRIDGE_SIGNATURE_MODE", CANARY),
        ("VOICEBRIDGE_API_URL", "ftp://" + CANARY),
        ("VOICEBRIDGE_MEDIA__LEAD_MS", "9999"),
    ],
)
def test_a_wrong_value_is_refused_by_name_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=key) as caught:
        load_settings()
    assert CANARY not in str(caught.value)


def test_secrets_are_split_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBRIDGE_WEBHOOK_SECRET", f"{CANARY}, old ,")
    monkeypatch.setenv("VOICEBRIDGE_API_KEY", CANARY)
    settings = load_settings()
    assert [each.get_secret_value() for each in settings.secrets] == [CANARY, "old"]
    assert settings.effective_signature_mode == "required"
    assert CANARY not in repr(settings)


def test_the_api_url_may_carry_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEBRIDGE_API_URL", "http://127.0.0.1:9090/v1/")
    assert load_settings().api_url == "http://127.0.0.1:9090"


def test_a_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_settings(tmp_path / "absent.toml")


def test_every_setting_is_described_and_listed() -> None:
    for name, info in Settings.model_fields.items():
        if name not in GROUPS:
            assert info.description, name
    assert "VOICEBRIDGE_MEDIA__LEAD_MS" in known_keys()
