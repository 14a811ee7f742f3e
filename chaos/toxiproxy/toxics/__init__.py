"""Every toxic this server knows: one file each, and this list. A new one is a file and a line."""

from __future__ import annotations

from chaos.toxiproxy.toxics.bandwidth import Bandwidth
from chaos.toxiproxy.toxics.dicom import Dicom
from chaos.toxiproxy.toxics.http import Http
from chaos.toxiproxy.toxics.latency import Latency
from chaos.toxiproxy.toxics.limit_data import LimitData
from chaos.toxiproxy.toxics.mllp import Mllp
from chaos.toxiproxy.toxics.noop import Noop
from chaos.toxiproxy.toxics.reset_peer import ResetPeer
from chaos.toxiproxy.toxics.slicer import Slicer
from chaos.toxiproxy.toxics.slow_close import SlowClose
from chaos.toxiproxy.toxics.stage import Toxic
from chaos.toxiproxy.toxics.timeout import Timeout

STOCK: tuple[type[Toxic], ...] = (
    Latency,
    Bandwidth,
    SlowClose,
    Timeout,
    ResetPeer,
    Slicer,
    LimitData,
    Noop,
)
SPEAKING: tuple[type[Toxic], ...] = (Mllp, Dicom, Http)  # ours only: they understand a protocol
KINDS: dict[str, type[Toxic]] = {kind.KIND: kind for kind in (*STOCK, *SPEAKING)}
