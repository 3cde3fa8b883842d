"""Recordings and codecs from Debian packages, in a cache outside the repository.

Fetched with ``apt-get download`` and unpacked with ``dpkg -x``: nothing is installed. The
recordings stay under the licences that their packages state (usr/share/doc/*/copyright).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PACKAGES = (
    # Prompts by trained voices, 16 kHz (CC BY-SA 3.0, CC BY 3.0).
    "asterisk-core-sounds-en-g722",
    "asterisk-core-sounds-es-g722",
    "asterisk-core-sounds-fr-g722",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru-g722",
    # Words and sentences by volunteers on their own microphones (GPL).
    "ktuberling-data",
    "tuxpaint-stamps-default",
    # No voices: music, objects, animals, percussion, desktop sounds, and a few coughs.
    "asterisk-moh-opsound-g722",
    "scratch",
    "sonic-pi-samples",
    "sound-theme-freedesktop",
    # Codecs, loaded with ctypes.
    "libspandsp2",
    "libopus0",
)


def cache() -> Path:
    """Where everything is kept: ``VOICEBRIDGE_BENCH_CACHE``, or ~/.cache/voicebridge-bench."""
    named = os.environ.get("VOICEBRIDGE_BENCH_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "voicebridge-bench"


def unpacked() -> Path:
    """The root under which all packages lie unpacked; what is missing is fetched (about 330 MB)."""
    archives, root = cache() / "debs", cache() / "root"
    archives.mkdir(parents=True, exist_ok=True)
    missing = [name for name in PACKAGES if not any(archives.glob(f"{name}_*.deb"))]
    if missing:
        print(f"fetching {', '.join(missing)} into {archives}")
        try:
            subprocess.run(["apt-get", "download", *missing], cwd=archives, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                "the recordings come from Debian packages: run this where `apt-get download` "
                f"works (Debian 12), or put the .deb files into {archives}"
            ) from error
    for name in PACKAGES:
        if not (root / "usr/share/doc" / name).exists():
            (archive,) = archives.glob(f"{name}_*.deb")
            subprocess.run(["dpkg", "-x", archive, root], check=True)
    return root
