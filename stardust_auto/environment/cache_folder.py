"""The folder of this user for what is kept between two runs: issued credentials, the copy of the configuration."""

from __future__ import annotations

import os


def cache_folder() -> str:
    """The user's cache folder, or one of this user's own below the folder of temporary files where the user has no home.

    A container often runs under a user id without a name and without ``HOME``.
    """
    import platformdirs

    try:
        return platformdirs.user_cache_dir("stardust-auto", appauthor=False)
    except Exception:  # noqa: BLE001 - platformdirs raises RuntimeError, pwd a KeyError
        import tempfile

        # Whoever reads there checks that the file is ours: anybody can make a folder of this name.
        return os.path.join(tempfile.gettempdir(), f"stardust-auto-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
