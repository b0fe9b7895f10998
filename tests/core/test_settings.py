"""What settings are read as, and what is said of wrong ones."""

import base64

import pytest

from core.settings import Settings, SettingsError, load_settings

KEY = base64.b64encode(bytes(range(32))).decode()


def settings_of(**variables: str) -> Settings:
    """Return the settings that these variables give, beside a key."""
    return load_settings(
        {"MODELYARD_ENCRYPTION_KEYS": KEY} | {f"MODELYARD_{name}": text for name, text in variables.items()}
    )


def test_origins_are_kept_as_browsers_write_them() -> None:
    given = (
        "https://App.example.com/, http://localhost:3000,https://b.example:443 , http://[::1]:80, capacitor://localhost"
    )

    assert settings_of(ALLOWED_ORIGINS=given).allowed_origins == (
        "https://app.example.com",
        "http://localhost:3000",
        "https://b.example",
        "http://[::1]",
        "capacitor://localhost",
    )


@pytest.mark.parametrize(
    "word", ["*", "null", "app.example.com", "https://", "https://a.example/app", "https://*.a.example"]
)
def test_what_no_browser_would_name_as_its_origin_is_refused_at_the_start(word: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_of(ALLOWED_ORIGINS=f"https://right.example, {word}", PORT="eighty")

    ports, origins = sorted(str(refused.value).splitlines(), reverse=True)
    assert ports.startswith("MODELYARD_PORT must be a port")
    assert origins.startswith(f"MODELYARD_ALLOWED_ORIGINS holds {word!r}, which is no origin")
