"""`App`: the plugged-in ports and the catalog, handed to every use case."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from core.catalog import Catalog
from core.configuration import HostedProvider
from core.gateway import Gateway
from core.offers import Offer
from core.ports.changes import Changes
from core.ports.clock import Clock
from core.ports.configurations import Configurations
from core.ports.event_log import EventLog
from core.ports.health import Health
from core.ports.identity import Identity
from core.ports.invocation_log import InvocationLog
from core.ports.pool_state import PoolState
from core.ports.rates import Rates
from core.ports.transaction import Storage
from core.ports.unsettled import Unsettled
from core.ports.vault import Vault
from core.recorder import Recorder
from core.results import Results
from core.running import Running
from core.settings import Settings
from core.tailer import Tailer
from core.wire.egress import Egress
from core.wire.http import Http


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything a use case may need. `process_id` names this process in leases; `running` holds its completions.

    `recorder` writes their events into `log`, `tailer` reads those of other processes from it. `results` keeps
    what calls with a key have answered. `gateways` are those that are enabled; the first serves orders that name none.
    `offers` is what the operator sells.
    """

    settings: Settings
    process_id: UUID
    clock: Clock
    catalog: Catalog
    hosted: Mapping[str, HostedProvider]
    gateways: Mapping[str, Gateway]
    offers: tuple[Offer, ...]
    storage: Storage
    identity: Identity
    configurations: Configurations
    vault: Vault
    invocations: InvocationLog
    unsettled: Unsettled
    pools: PoolState
    rates: Rates
    changes: Changes
    health: Health
    running: Running
    log: EventLog
    recorder: Recorder
    tailer: Tailer
    results: Results
    egress: Egress
    http: Http
