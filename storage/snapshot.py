"""One snapshot of a workspace's configuration, read whole."""

from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select

from core.configuration import Configuration, HostedProvider
from core.errors import NotFound
from storage import credentials, models, pools, providers
from storage.cipher import Cipher
from storage.connection import Connection
from storage.quotas import SqlQuotas
from storage.workspaces import workspaces

_VERSION = select(workspaces.c.config_version).where(workspaces.c.id == bindparam("workspace", type_=Uuid))


async def load(
    connection: Connection,
    cipher: Cipher,
    workspace_id: UUID,
    hosted: Mapping[str, HostedProvider] = MappingProxyType({}),
) -> Configuration:
    """Return the configuration of a workspace by eight statements, nine where it has pools. NotFound if it is gone.

    A credential that cannot be opened is UNREADABLE here, whatever its row says.
    """
    version = await version_of(connection, workspace_id)
    return Configuration(
        workspace_id=workspace_id,
        version=version,
        providers=await providers.of_workspace(connection, workspace_id),
        credentials={found.id: found for found in await credentials.of_workspace(connection, cipher, workspace_id)},
        models=await models.of_workspace(connection, workspace_id),
        settings=await models.settings_of_workspace(connection, workspace_id),
        defaults=await models.defaults_of_workspace(connection, workspace_id),
        pools=await pools.of_workspace(connection, workspace_id),
        quotas=tuple(await SqlQuotas(connection).of_workspace(workspace_id)),
        hosted=hosted,
    )


async def version_of(connection: Connection, workspace_id: UUID) -> int:
    """Return the version of a workspace's configuration. NotFound if it is gone."""
    row = await connection.row(_VERSION, {"workspace": workspace_id})
    if row is None:
        raise NotFound("There is no such workspace, or it is not one of yours.")
    return int(row[0])
