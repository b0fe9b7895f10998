"""Everything before the first request, in one process: migrations, then the first account and token."""

import asyncio
import os
import sys

from core.errors import ModelyardError
from core.settings import Settings, SettingsError, load_settings
from storage import migrate


async def prepare(settings: Settings) -> None:
    """Migrate the database and make the first account; show its token, this once."""
    await migrate.run(settings)
    file = migrate.sqlite_file(settings.database_url)
    if file is not None and migrate.sqlite_first(file, "SELECT 1 FROM accounts LIMIT 1") is not None:
        return
    # Imported where it is needed: a start with nothing to do shall not wait for all of core.
    from storage.bootstrap import announce, bootstrap

    announce(settings, await bootstrap(settings))


def main() -> int:
    """Prepare the installation that the environment describes; return the exit code."""
    try:
        asyncio.run(prepare(load_settings(os.environ)))
    except (SettingsError, ModelyardError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
